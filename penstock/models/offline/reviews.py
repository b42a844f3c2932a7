"""Reviews: a score, findings and prose that fit the code and what came of it."""

import itertools
import re
from collections.abc import Iterator, Mapping

from penstock.models.offline.data import load
from penstock.models.offline.prose import Slots, clean, count, dice_of, listed, pick, render, short

#: Characters of a program that are looked at.
_LOOKED_AT = 20_000


def glance(code: str, title: str, seed: str) -> str:
    """Return a paragraph about code that has not run. It does not say whether the code is right."""
    said, code = load("reviews")["glance"], code[:_LOOKED_AT]
    slots = Slots(
        name=f" for {_named(title)}" if title else "",
        shape=f"{_lines(code)} {next(_seen('shapes', code))}",
        first=next(itertools.chain(_seen("faults", code), _seen("merits", code)), said["short"]),
    )
    return render(said["says" if code.strip() else "empty"], dice_of("glance", seed, code), slots)


def review(
    task: object, code: str, result: Mapping[str, object] | None, seed: str
) -> dict[str, object]:
    """Return `score` from 1 to 10, `findings` and `critique`, by the verdict and the code."""
    said, code = load("reviews"), code[:_LOOKED_AT]
    name, dice = _state(code, result), dice_of("review", seed, code)
    state = said["states"][name]
    faults, merits = list(_seen("faults", code)), list(_seen("merits", code))
    title = task.get("title") if isinstance(task, Mapping) else task
    cause = (result or {}).get("cause")
    slots = Slots(
        lines=_lines(code),
        name=_named(str(title or "")) or "this task",
        why=why_failed(result or {}),
        advice=said["advice"].get(str(cause), said["advice"]["other"]),
        faults=" ".join(faults[:2]),
    )
    findings = [render(state["ran"], dice, slots), *faults]
    if merits and (name == "passed" or not faults):
        findings.append(pick(dice, merits))
    critique = [said["critique"], state["says"], said["change"] if faults else ""]
    written = [render(text, dice, slots) for text in critique]
    return {
        "score": max(state["least"], state["best"] - len(faults)),
        "findings": findings,
        "critique": " ".join(filter(None, [*written, *([] if faults else merits[:1])])),
    }


def why_failed(result: Mapping[str, object]) -> str:
    """Return the cause of a FAIL, and the last line of the error."""
    error = str(result.get("error") or result.get("detail") or "").rstrip().rpartition("\n")[2]
    said = (str(result.get("cause") or "no pass"), error)
    return ": ".join(filter(None, (short(clean(text)) for text in said)))


def _state(code: str, result: Mapping[str, object] | None) -> str:
    if not code.strip():
        return "empty"
    if result is None:
        return "unrun"
    if result.get("verdict") != "PASS":
        return "failed"
    has_task = "title" in result or "task" in result
    return "unchecked" if has_task and "expected" not in result else "passed"


def _seen(what: str, code: str) -> Iterator[str]:
    """What the rules of `reviews.yaml` say to this code."""
    for rule in load("reviews")[what]:
        found: list[str] = re.findall(rule["found"], code, re.MULTILINE)
        missing = "missing" not in rule or not re.search(rule["missing"], code, re.MULTILINE)
        if missing and rule.get("least", 1) <= len(found) <= rule.get("most", len(found)):
            names = list(dict.fromkeys(found))
            quoted, some = listed(sorted(map(repr, names))), listed(names[:3])
            lines = count(len(found), "line")
            yield rule["says"].format(lines=lines, first=names[0], some=some, quoted=quoted)


def _lines(code: str) -> str:
    return count(sum(map(bool, map(str.strip, code.splitlines()))), "line")


def _named(title: str) -> str:
    return short(clean(title)).rstrip(".")
