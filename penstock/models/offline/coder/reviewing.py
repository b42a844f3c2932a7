"""Reviews: a score, findings and prose that fit the code and what came of it."""

import dataclasses
import random
import re
from collections.abc import Mapping

from penstock.models.offline.storyteller import prose

#: Characters of a program that are looked at.
_LOOKED_AT = 20_000
_LONG_LINE = 100
_SHORT_NAME = re.compile(r"^[ \t]*(?:for[ \t]+)?([a-z])(?=[ \t]*(?:=[^=]|in[ \t]))", re.MULTILINE)
_FUNCTION = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+([\w.]+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What can be seen of a program without running it."""

    lines: int
    functions: list[str]
    modules: list[str]
    faults: list[str]
    merits: list[str]


def glance(code: object, title: str, seed: str) -> str:
    """One paragraph about code that has not run yet. It does not say whether the code is right."""
    text = str(code or "")
    seen = _look(text)
    dice = prose.dice_of("glance", seed, text[:_LOOKED_AT])
    if not seen.lines:
        return "There is no code here yet, so there is nothing to look at."
    shape = f"{prose.count(seen.lines, 'line')}"
    shape += f" around {prose.listed(seen.functions[:3])}()" if seen.functions else " in one piece"
    first = (seen.faults or seen.merits or ["It is too short to say more."])[0]
    name = f" for {prose.short(prose.clean(title)).rstrip('.')}" if title else ""
    watch = prose.pick(
        dice,
        (
            "The run will show how it takes the ends of its input.",
            "What I would watch in the run are the first and the last line of the input.",
            "Whether it is right, the run must say.",
        ),
    )
    return f"At first sight{name}: {shape}. {first} {watch}"


def review(
    task: object, code: object, result: Mapping[str, object] | None, seed: str
) -> dict[str, object]:
    """`score` from 1 to 10, `findings` and `critique`, by the verdict `result` and the code."""
    text = str(code or "")
    seen = _look(text)
    dice = prose.dice_of("review", seed, text[:_LOOKED_AT])
    passed = result is not None and result.get("verdict") == "PASS"
    findings = [_ran(result, seen), *seen.faults]
    if seen.merits and (passed or not seen.faults):
        findings.append(prose.pick(dice, seen.merits))
    score = max(7, 10 - len(seen.faults)) if passed else max(2, 4 - len(seen.faults))
    if not seen.lines or result is None or _is_unchecked(result):
        score = 1 if not seen.lines else 5
    return {
        "score": score,
        "findings": findings,
        "critique": _critique(task, seen, result, dice),
    }


def _look(code: str) -> _Seen:
    code = code[:_LOOKED_AT]
    lines = [line for line in code.splitlines() if line.strip()]
    functions = list(dict.fromkeys(_FUNCTION.findall(code)))
    modules = list(dict.fromkeys(_IMPORT.findall(code)))
    faults, merits = [], []
    if len(lines) > 12 and not functions:
        faults.append(f"All {len(lines)} lines are one piece: no function can be tested by itself.")
    if names := sorted(set(_SHORT_NAME.findall(code))):
        faults.append(f"One letter is no name: {prose.listed([repr(name) for name in names])}.")
    wide = sum(len(line) > _LONG_LINE for line in lines)
    if wide:
        faults.append(f"{prose.count(wide, 'line')} longer than {_LONG_LINE} characters.")
    if re.search(r"^[ \t]*except[ \t]*:", code, re.MULTILINE):
        faults.append("A bare except hides every error, also those that nobody thought of.")
    if re.search(r"^[ \t]*while[ \t]+(?:True|1)[ \t]*:", code, re.MULTILINE):
        faults.append("A loop without a condition ends only where somebody remembered a break.")
    if len(functions) > 1 and '"""' not in code:
        faults.append("Several functions and no docstring: a reader must run them in the head.")
    if functions:
        merits.append(f"The rule is in {functions[0]}() and the input stays out of it.")
    if "setdefault" in code or ".get(" in code:
        merits.append("A dictionary keeps the groups, so the input is read only once.")
    if modules and modules != ["sys"]:
        merits.append(f"It uses what the standard library has: {prose.listed(modules[:3])}.")
    if lines and len(lines) <= 8:
        merits.append("It is short enough to be checked by reading.")
    return _Seen(len(lines), functions, modules, faults, merits)


def _is_unchecked(result: Mapping[str, object]) -> bool:
    """It passed because there was nothing to hold its output against."""
    given = "title" in result or "task" in result
    return result.get("verdict") == "PASS" and given and "expected" not in result


def _ran(result: Mapping[str, object] | None, seen: _Seen) -> str:
    if not seen.lines:
        return "There is no code to run."
    if result is None:
        return "It has not run, so nothing is known of its result."
    if _is_unchecked(result):
        return "It ran to its end. What it should have printed, nobody said."
    if result.get("verdict") == "PASS":
        return "It printed what was expected for the example."
    cause = str(result.get("cause") or "no pass")
    said = str(result.get("error") or result.get("detail") or "").rstrip().rpartition("\n")[2]
    quoted = prose.short(prose.clean(said))
    return f"It failed ({cause}): {quoted}" if quoted else f"It failed ({cause})."


#: The cause of a FAIL -> what a senior developer says to it.
_ADVICE = {
    "timeout": "Look for the loop whose condition no longer changes before making it faster.",
    "memory": "It keeps more than it needs; work on one line at a time.",
    "output": "It prints without end; a loop has lost its exit.",
    "disk": "It should not write files at all; the result belongs on stdout.",
    "exit code": "Read the last line of the traceback first; that input deserves a test.",
    "output differs": "Compare the first line that differs; it is mostly the edge of a range.",
}


def _critique(
    task: object, seen: _Seen, result: Mapping[str, object] | None, dice: random.Random
) -> str:
    title = task.get("title") if isinstance(task, Mapping) else task
    name = prose.short(prose.clean(str(title or ""))).rstrip(".") or "this task"
    said = [f"{prose.count(seen.lines, 'line')} for {name}."]
    if result is None:
        said.append("Nobody has run it, so I judge only how it reads.")
    elif _is_unchecked(result):
        said.append("It runs, and that is all that is known: give the task an example.")
    elif result.get("verdict") == "PASS":
        praise = ("It does what was asked.", "The result is right.", "It works.")
        said.append(prose.pick(dice, praise))
        said.append("One example is not a proof: an empty input and the largest one come next.")
    else:
        said.append(f"I would not merge it. {_ran(result, seen)}")
        said.append(_ADVICE.get(str(result.get("cause")), "Begin with the smallest input."))
    if seen.faults:
        said.append(f"What I would change: {' '.join(seen.faults[:2])}")
    elif seen.merits:
        said.append(seen.merits[0])
    return " ".join(said)
