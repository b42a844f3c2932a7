"""The story pipeline's four texts, each made from those before it."""

import random
import re
from collections.abc import Mapping

from penstock.models.offline.storyteller import book, outlines, prose

#: The parts that `tell` can make.
KINDS = ("plot", "story", "critique", "final")


def tell(kind: str, parts: Mapping[str, object], seed: str) -> str:
    """The run's next text: `kind` is one of `KINDS`, `parts` what the run has made so far.

    Any text is accepted in any part, a missing one is made up, and nothing in a part is ever
    read as markup. Raises `ValueError` for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"the storyteller makes {', '.join(KINDS)}; it was asked for {kind!r}")
    texts = {name: prose.text_of(parts.get(name)) for name in ("premise", *KINDS)}
    if kind == "plot":
        return _plot(
            outlines.outline_of(texts["premise"], "", "", seed),
            prose.dice_of(kind, seed, texts["premise"]),
        )
    if kind == "story":
        outline = outlines.outline_of(texts["premise"], texts["plot"], "", seed)
        return _story(outline, prose.dice_of(kind, seed, texts["plot"], texts["premise"]))
    draft = texts["story"].strip() or tell("story", parts, seed)
    outline = outlines.outline_of(texts["premise"], texts["plot"], draft, seed)
    if kind == "critique":
        return _critique(draft, outline, prose.dice_of(kind, seed, draft))
    return _revision(draft, texts["critique"], outline)


def reply(instructions: str, text: str, seed: str) -> str:
    """A few plain lines about `text`, in its own words, for a card that is not about a story.

    They quote, count and list; they do not claim to have done what the instructions ask.
    """
    words = prose.UNSEEN.sub(" ", text).split()
    if not words:
        return "This step was given no text, so there is nothing to hand on."
    dice = prose.dice_of("reply", seed, text[: prose.PREMISE_CHARS])
    first = prose.short(prose.first_sentence(prose.clean(text)))
    # The quote leads and is a sentence, so that a reply to this reply quotes it too.
    stop = "" if first.endswith((".", "!", "?", "…")) else "."
    given = f"This step was given {prose.count(len(words), 'word')}."
    keys = prose.key_words(words)
    lines = [
        f'{prose.pick(dice, _BEGINS)}: "{first}"{stop}',
        f"{given} Key words: {prose.listed(keys)}." if keys else given,
    ]
    if task := prose.clean(instructions):
        lines.append(f'The card asks: "{prose.short(prose.first_sentence(task))}"')
    lines.append(prose.pick(dice, _ENDS))
    return "\n".join(lines)


_BEGINS = ("The text begins", "Its first words are", "At the start it says")
_ENDS = (
    "Nothing was added to it on the way.",
    "It is passed on here as it came.",
    "A model would take it from here.",
)


# --- The four texts --------------------------------------------------------------------------


def _plot(outline: outlines.Outline, dice: random.Random) -> str:
    arc, slots = outline.arc, outline.slots
    helps = prose.render(prose.pick(dice, book.HELPS), dice, slots)
    written = {
        "Title": outline.title,
        "Hero": f"{prose.upper(outline.hero_line)}.",
        "Place": f"{slots['At']}.",
        "Wish": arc.wish.format_map(slots),
        "Trouble": arc.trouble.format_map(slots),
        "Helper": f"{prose.upper(slots['helper'])}. {helps}",
        "Turn": arc.turn.format_map(slots),
        "Ending": arc.ending.format_map(slots),
    }
    return "\n".join(f"{label}: {text}" for label, text in written.items())


def _story(outline: outlines.Outline, dice: random.Random) -> str:
    arc = outline.arc
    slots = dict(outline.slots)
    slots["help"] = prose.render(book.HELP, dice, slots)
    slots["advice"] = prose.render(arc.advice[0], dice, slots)
    slots["close"] = prose.render(arc.close[0], dice, slots)
    opening = [_plain_opening(slots), book.PLAIN_SENSE]
    if slots["legend"]:
        opening.append(book.LEGEND)
    start = " ".join(prose.render(passage, dice, slots) for passage in opening)
    return "\n\n".join(
        [outline.title, start, slots["trait_text"], prose.render(arc.body, dice, slots)]
    )


def _plain_opening(slots: Mapping[str, str]) -> str:
    return book.PLAIN_OPENING_THE if slots["intro"].startswith("the ") else book.PLAIN_OPENING


#: What a critic can miss in a story -> the words by which a revision knows that it was missed.
_POINTS = {
    "opening": re.compile(r"\bopening|\bbegin|\bfirst (?:line|sentence)|\bhook", re.IGNORECASE),
    "place": re.compile(r"\bsounds?\b|\bsmell|\bsens(?:e|es|ory)\b|\bsetting", re.IGNORECASE),
    "advice": re.compile(r"\bdialogue|\baloud\b|\bconversation|\btalk", re.IGNORECASE),
    "close": re.compile(r"\bending|\blast (?:line|sentence)|\bconclu|\bresol", re.IGNORECASE),
}


def _critique(draft: str, outline: outlines.Outline, dice: random.Random) -> str:
    sentences = prose.sentences(prose.body(draft)) or ["..."]
    slots = {
        **outline.slots,
        "first": prose.short(sentences[0]),
        "last": prose.short(sentences[-1]),
        "place": outline.place_name,
    }
    arc = outlines.spotted_in(draft)
    if arc:
        liked, dull = f"what a listener will remember is {arc.praised}", book.DULL
    else:
        middle = prose.short(sentences[len(sentences) // 2])
        liked, dull = f'the line "{middle}" is one to keep', book.DULL_ELSEWHERE
    points = [prose.render(text, dice, slots) for text in dull.values()]
    title = prose.short(prose.title(draft) or outline.title)
    return "\n\n".join(
        [f'"{title}" has a warm heart, and {liked}.', *points, prose.pick(dice, book.VERDICTS)]
    )


def _revision(draft: str, critique: str, outline: outlines.Outline) -> str:
    """`draft` with a better passage wherever the critique names a weak one."""
    arc, slots = outline.arc, outline.slots
    said = re.sub(r'"[^"\n]*"', "", critique)
    named = [point for point, words in _POINTS.items() if words.search(said)] or list(_POINTS)
    passages = {
        "opening": (_plain_opening(slots), arc.opening),
        # After the better opening the plain sentence about the place would hang in the air.
        "place": (book.PLAIN_SENSE, "{sense}" if "place" in named else ""),
        "advice": arc.advice,
        "close": arc.close,
    }
    text = draft
    for point in [*named, *(["place"] if "opening" in named else [])]:
        plain, better = passages[point]
        for weak in prose.every(plain, slots):
            text = text.replace(weak if better else f" {weak}", better.format_map(slots), 1)
    if text == draft:
        text = f"{draft.rstrip()}\n\n{book.NO_ENDING}"
    text = re.sub(r" +\n", "\n", text)
    return text if prose.title(draft) else f"{outline.title}\n\n{text}"
