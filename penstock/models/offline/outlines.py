"""Outlines: the plot of a story, its place and its people, chosen by the premise and the dice."""

import random
import re
from dataclasses import dataclass, replace
from typing import Any

from penstock.models.offline.data import load
from penstock.models.offline.premises import Hero, read_premise
from penstock.models.offline.prose import Slots, clean, dice_of, lower, pick, quoted, render


@dataclass(frozen=True)
class Outline:
    """A plot, and everything that its sentences are filled from."""

    plot: dict[str, Any]
    slots: Slots


def outline_of(premise: str, plot: str, draft: str, seed: str) -> Outline:
    """Read what the texts so far say, and let the dice decide what they leave open."""
    telling, dice, made = load("telling"), dice_of("outline", seed, premise), draft + plot
    stand_in = read_premise(pick(dice, load("people")["heroes"]))
    named = _hero(clean(premise), plot, draft)
    hero = named or stand_in
    assert hero is not None  # every stand-in is one
    known = (hero.fear and "fear") or (hero.wish and "wish") or (hero.sort and "fixed")
    fitting = telling["heroes"][(known or "anyone") if named else "nobody"]
    chosen = spotted_in(draft) or spotted_in(plot) or load("plots")[pick(dice, fitting["plots"])]
    fear = hero.fear or "the dark"
    # What the hero says for `his own shadow`: my own shadow.
    mine = re.sub(r"\b(?:him|her|it|them)sel(?:f|ves)\b", "myself", fear)
    mine = re.sub(r"\b(?:his|her|its|their)\b", "my", mine)
    slots = Slots(load("people")["pronouns"][hero.pronoun], hero=hero.called, name=hero.title)
    slots |= {"intro": hero.intro, "trait": hero.trait, "legend": hero.legend}
    slots |= {"fear": fear, "my_fear": mine, "do": hero.wish or "sing"}
    slots["line"] = fitting["line"].format_map(slots)
    note = telling["note" if clean(premise) else "no_note"]
    slots["note"] = note.format(quote=quoted(premise))
    slots |= _place(hero, _line(plot, "Place"), made, dice)
    slots |= _helper(hero, _line(plot, "Helper"), made, dice)
    slots["title"] = _line(plot, "Title") or render(chosen["outline"]["Title"], dice, slots)
    plain, fixed = pick(dice, load("traits")["plain"]), load("traits")["fixed"].get(hero.sort)
    trait = load("traits")["named"].get(hero.trait) or fixed or plain
    slots["trait_text"] = render(trait["text"], dice, slots)
    slots["seen"] = render(f"{(fixed or trait)['deed']} And there, at last, was", dice, slots)
    return Outline(chosen, slots)


def spotted_in(text: str) -> dict[str, Any] | None:
    """Return the plot that `text` tells, when it is one of ours."""
    text = text.lower()
    plots = list(load("plots").values())
    shares = [sum(mark in text for mark in plot["marks"]) / len(plot["marks"]) for plot in plots]
    return plots[shares.index(max(shares))] if max(shares) > 0.5 else None


def _line(plot: str, label: str) -> str:
    found = re.search(rf"^{label}: *(.+?)\.?$", plot, re.MULTILINE)
    return found[1].strip() if found else ""


def _hero(premise: str, plot: str, draft: str) -> Hero | None:
    asked, planned = read_premise(premise), read_premise(clean(_line(plot, "Hero")))
    if asked and planned and asked.called == planned.called:
        # The plot may have been edited: what it says goes first.
        trait = planned.trait or asked.trait
        edited = {"intro": planned.intro, "fear": planned.fear, "wish": planned.wish}
        return replace(asked, trait=trait, **edited)
    told = re.search(load("telling")["found_again"], draft)
    return planned or asked or (read_premise(clean(told[1])) if told else None)


def _place(hero: Hero, line: str, made: str, dice: random.Random) -> dict[str, str]:
    fits = [place for place in load("places") if place.get("coast") or hero.sort != "sea"]
    choice = pick(dice, fits)
    spotted = next((place for place in load("places") if place["place"] in made), None)
    at = hero.place or lower(clean(line))
    if at and not spotted:
        is_place = re.match(r"(?:in|on|at|under|inside|beneath|near|above|behind|beyond)\b", at)
        return {**load("telling")["elsewhere"], "at": at if is_place else f"in {line}"}
    place = spotted or choice
    near = load("traits")["fixed"].get(hero.sort, place).get("near", "in")
    return {**place, "at": f"{near} {place['place']}, {place['about']}"}


def _helper(hero: Hero, line: str, made: str, dice: random.Random) -> dict[str, str]:
    helpers = load("people")["helpers"]
    choice = pick(dice, [one for one in helpers if one["kind"].split()[-1] not in hero.intro])
    spotted = next((one for one in helpers if one["name"] in made), None)
    written = re.split(r"[,.;]", line)[0] or hero.friend
    one, other = spotted or choice, read_premise(clean(lower(written)))
    called, pronoun = one["name"], one["pronoun"]
    helper = f"{one['kind']} called {called}, {one['habit']}"
    if other and not spotted:
        called, pronoun = other.called, other.pronoun
        helper = other.intro.removeprefix("a certain ")
    theirs = load("people")["pronouns"][pronoun]
    return {"friend": called, "helper": helper, "fhe": theirs["he"], "fhim": theirs["him"]}
