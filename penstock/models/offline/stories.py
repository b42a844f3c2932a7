"""The story pipeline's four texts, each made from those before it.

The story follows the plot that it is given (an edited plot gives another story), the critique
quotes the story, and the final version changes the story in the places that the critique names.
"""

import random
import re
from collections.abc import Mapping

from penstock.models.offline import prose
from penstock.models.offline.data import load
from penstock.models.offline.outlines import Outline, outline_of, spotted_in
from penstock.models.offline.prose import Slots, render, short

#: The parts that `tell` can make.
KINDS = ("plot", "story", "critique", "final")


def tell(kind: str, parts: Mapping[str, object], seed: str) -> str:
    """Return the run's next text: `kind` of `KINDS`, from the `parts` that it has made so far.

    Any text is accepted in any part, a missing one is made up, and nothing in a part is ever
    read as markup. Raises `ValueError` for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"the storyteller makes {', '.join(KINDS)}; it was asked for {kind!r}")
    premise, plot, draft, critique = (
        prose.text_of(parts.get(name)) for name in ("premise", *KINDS[:3])
    )
    plot, draft = "" if kind == "plot" else plot, draft.strip()
    draft = "" if kind in ("plot", "story") else draft or tell("story", parts, seed)
    outline = outline_of(premise, plot, draft, seed)
    if kind == "final":
        return _revision(outline, draft, critique)
    write = {"plot": _plot, "story": _story, "critique": _critique}[kind]
    return write(outline, draft, prose.dice_of(kind, seed, premise, plot, draft))


def _plot(outline: Outline, draft: str, dice: random.Random) -> str:
    lines = {**load("telling")["outline"], **outline.plot["outline"], "Title": "{title}"}
    said = {label: render(text, dice, outline.slots) for label, text in lines.items()}
    return "\n".join(f"{label}: {text}" for label, text in said.items())


def _story(outline: Outline, draft: str, dice: random.Random) -> str:
    telling, plot, slots = load("telling"), outline.plot, Slots(outline.slots)
    slots["help"] = render(telling["help"], dice, slots)
    slots["advice"] = render(plot["advice"]["plain"], dice, slots)
    slots["close"] = render(plot["close"]["plain"], dice, slots)
    opening = [_once(slots), telling["good_place"], telling["legend"] if slots["legend"] else ""]
    start = " ".join(render(passage, dice, slots) for passage in opening if passage)
    middle = render(plot["body"], dice, slots)
    return "\n\n".join([slots["title"], start, slots["trait_text"], middle])


def _once(slots: Slots) -> str:
    return str(load("telling")["once_the" if slots["intro"].startswith("the ") else "once"])


def _critique(outline: Outline, draft: str, dice: random.Random) -> str:
    telling, plot, slots = load("telling"), spotted_in(draft), Slots(outline.slots)
    said = prose.sentences(prose.body(draft)) or ["..."]
    middle = said[len(said) // 2]
    slots |= {"first": short(said[0]), "middle": short(middle), "last": short(said[-1])}
    slots["headline"] = short(prose.title(draft) or slots["title"])
    slots["praised"] = plot["praised"] if plot else ""
    whose = "ours" if plot else "others"
    points = [point[whose] for point in telling["points"].values()]
    written = [telling["praise"][whose], *points, telling["verdict"]]
    return "\n\n".join(render(text, dice, slots) for text in written)


def _revision(outline: Outline, draft: str, critique: str) -> str:
    """`draft` with a better passage wherever the critique names a weak one."""
    telling, plot, slots = load("telling"), outline.plot, outline.slots
    said = re.sub(r'"[^"\n]*"', "", critique)
    points = telling["points"]
    named = [name for name in points if re.search(points[name]["means"], said, re.I)] or [*points]
    if "opening" in named:
        # After the better opening the plain sentence about the place would hang in the air.
        named.append("place")
    passages = {
        "opening": {"plain": _once(slots), "better": plot["opening"]},
        "place": {"plain": telling["good_place"], "better": "{sense}"},
        "advice": plot["advice"],
        "close": plot["close"],
    }
    text = draft
    for name in named:
        (better,) = prose.every(passages[name]["better"], slots)
        for weak in prose.every(passages[name]["plain"], slots):
            text = text.replace(weak, better, 1)
    if text == draft:
        text = f"{draft.rstrip()}\n\n{telling['no_ending']}"
    return text if prose.title(draft) else f"{slots['title']}\n\n{text}"
