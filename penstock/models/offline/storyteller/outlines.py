"""Outlines: the plot of a story, its place and its people, chosen by the premise and the dice."""

import random
import re
from dataclasses import dataclass, replace

from penstock.models.offline.storyteller import book, premises, prose

# --- What the story is made of ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outline:
    """The plot and everything that its sentences are filled from."""

    arc: book.Arc
    title: str
    slots: dict[str, str]
    hero_line: str
    place_name: str


def outline_of(premise: str, plot: str, draft: str, seed: str) -> Outline:
    """Read what the texts so far say, and let the dice decide what they leave open."""
    dice = prose.dice_of("outline", seed, premise)
    quote = prose.clean(premise)
    asked = premises.read_premise(quote)
    planned = premises.read_premise(prose.clean(_line(plot, "Hero"))) if plot else None
    told = _OPENING.match(prose.body(draft)) if draft else None
    hero = planned or asked or (premises.read_premise(prose.clean(told[1])) if told else None)
    if asked and planned and asked.called == planned.called:
        # The plot may have been edited: what it says goes first.
        hero = replace(
            asked,
            intro=planned.intro,
            trait=planned.trait or asked.trait,
            fear=planned.fear,
            wish=planned.wish,
        )
    stand_in = prose.pick(dice, book.STAND_INS)
    arc = spotted_in(draft) or spotted_in(plot) or _fitting(hero, dice)
    if hero is None:
        what, name, pronoun = stand_in
        hero = replace(premises.creature(what.split(" ", 1)[1], name), pronoun=pronoun)
    known = draft + plot
    at, place = _place(hero, _line(plot, "Place"), known, dice)
    friend, helper = _helper(hero, _line(plot, "Helper"), known, dice)
    slots = _slots(hero, friend, quote)
    slots |= {"at": at, "At": prose.upper(at), "helper": helper, "sense": place.sense}
    slots |= {"People": place.people, "people": prose.lower(place.people)}
    title = _line(plot, "Title") or prose.render(arc.title, dice, slots)
    line = hero.intro
    if hero.fear or hero.wish:
        line += f" who is afraid of {hero.fear}" if hero.fear else f" who wants to {hero.wish}"
    slots["trait_text"], slots["seen"] = _trait(hero, slots, dice)
    return Outline(arc, title, slots, line, place.name or "the place")


_OPENING = re.compile(
    r"(?:Once upon a time there was|There was once|Long ago, or perhaps last week, there was"
    r"|This story is about|Here is a story about|This story belongs to)"
    r" (.+?)\. (?:His|Her|Its|Their) home"
)


def _line(plot: str, label: str) -> str:
    found = re.search(rf"^{label}: *(.+?)\.?$", plot, re.MULTILINE)
    return found[1].strip() if found else ""


def spotted_in(text: str) -> book.Arc | None:
    """The plot that `text` tells, when it is one of ours."""
    text = text.lower()
    counts = [sum(mark in text for mark in arc.marks) / len(arc.marks) for arc in book.ARCS]
    best = max(counts)
    return book.ARCS[counts.index(best)] if best > 0.5 else None


def _fitting(hero: premises.Hero | None, dice: random.Random) -> book.Arc:
    if hero is None:
        return book.WORDS
    if hero.fear:
        return book.FEAR
    if hero.wish:
        return book.WISH
    anywhere = (book.BELL, book.SPOONS, book.FOG)
    return prose.pick(dice, anywhere if hero.sort else (*anywhere, book.PARCEL))


def _place(
    hero: premises.Hero, line: str, known: str, dice: random.Random
) -> tuple[str, book.Place]:
    choice = prose.pick(dice, [place for place in book.PLACES if place.coast or hero.sort != "sea"])
    spotted = next((place for place in book.PLACES if place.name in known), None)
    elsewhere = hero.place or (prose.lower(prose.clean(line)) if line and not spotted else "")
    if elsewhere and not spotted:
        if not re.match(r"(?:in|on|at|under|inside|beneath|near|above|behind|beyond)\b", elsewhere):
            elsewhere = f"in {line}"
        place = book.Place("", "", "The neighbours", book.ELSEWHERE_SENSE)
        return elsewhere, place
    place = spotted or choice
    by = {"rooted": "at the edge of", "sea": "in the bay below", "sky": "high above"}
    return f"{by.get(hero.sort, place.at)} {place.name}, {place.about}", place


def _helper(
    hero: premises.Hero, line: str, known: str, dice: random.Random
) -> tuple[premises.Hero, str]:
    strangers = [one for one in book.HELPERS if one[1].split()[-1] not in hero.intro]
    choice = prose.pick(dice, strangers)
    spotted = next((one for one in book.HELPERS if one[0] in known), None)
    written = re.split(r"[,.;]", line)[0] if line and not spotted else hero.friend
    other = premises.read_premise(prose.clean(prose.lower(written))) if written else None
    if other and not spotted:
        return other, other.called if other.intro.startswith("a certain ") else other.intro
    name, what, pronoun, habit = spotted or choice
    return premises.Hero(name, what, name, pronoun), f"{what} called {name}, {habit}"


def _trait(hero: premises.Hero, slots: dict[str, str], dice: random.Random) -> tuple[str, str]:
    plain = prose.pick(dice, book.PLAIN_TRAITS)
    rooted = book.ROOTED_TRAIT if hero.sort == "rooted" else book.OUTSIDE_TRAIT
    like, deed = premises.TRAITS.get(hero.trait, (rooted, "") if hero.sort else plain)
    if hero.sort:
        deed = book.ROOTED_DEED
    seen = f"{deed} And there, at last, was"
    return like.format_map(slots), seen.format_map(slots)


def _slots(hero: premises.Hero, friend: premises.Hero, premise: str) -> dict[str, str]:
    he, him, his, himself, he_was = prose.PRONOUNS[hero.pronoun]
    fhe, fhim = prose.PRONOUNS[friend.pronoun][:2]
    quote = prose.short(prose.first_sentence(premise))
    quote = quote if quote.endswith("..") else quote.removesuffix(".")
    stop = "" if quote.endswith(("!", "?", "..")) else "."
    slots = {
        "hero": hero.called, "intro": hero.intro, "he": he, "him": him, "his": his,
        "himself": himself, "he_was": he_was, "friend": friend.called, "fhe": fhe,
    }  # fmt: skip
    slots |= {prose.upper(name): prose.upper(text) for name, text in slots.items()}
    slots |= {
        "FHe": prose.upper(fhe), "fhim": fhim, "Title": hero.title, "trait": hero.trait,
        "fear": hero.fear or "the dark", "my_fear": prose.mine(hero.fear or "the dark"),
        "do": hero.wish or "sing", "legend": hero.legend,
        "note": f'On it was written: "{quote}"{stop}' if quote
        else "There was nothing written on it, and yet somebody had folded it with great care.",
    }  # fmt: skip
    return slots
