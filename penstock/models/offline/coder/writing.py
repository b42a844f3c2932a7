"""What the coder writes for a part of a run, from the parts that are there."""

import json
from collections.abc import Mapping

from penstock.models.offline.coder.coding import solve
from penstock.models.offline.coder.reviewing import glance, review
from penstock.models.offline.coder.tasks import brainstorm

#: The parts that the coder writes: a task, a solution, a review, and a first look at code.
PARTS = ("ai_topic", "ai_solutions", "ai_reviews", "ai_telemetry")

_Json = dict[str, object]


def write(part: str, parts: Mapping[str, object], asked: str, seed: str) -> _Json:
    """The run's next part as the JSON that the mesh's cards ask for.

    Any value is accepted in any part and a missing one is none. `asked` is the whole prompt, in
    which titles that were made before and lessons may stand. Raises `ValueError` for another part.
    """
    match part:
        case "ai_topic":
            told = json.dumps(parts, ensure_ascii=False, default=str)
            return dict(brainstorm(f"{asked}\n{told}", seed))
        case "ai_solutions":
            return dict(
                solve(
                    parts.get("ai_topic", asked),
                    failure=_failure(parts),
                    lessons=_lessons(parts, asked),
                    seed=seed,
                )
            )
        case "ai_reviews":
            result = _mapping(parts.get("ai_verified_solutions")) or _failure(parts)
            return review(parts.get("ai_topic"), code_of(parts), result, seed)
        case "ai_telemetry":
            title = str(_mapping(parts.get("ai_topic")).get("title", ""))
            return {"critique": glance(code_of(parts), title, seed)}
    raise ValueError(f"the coder writes {', '.join(PARTS)}; it was asked for {part!r}")


def as_text(written: Mapping[str, object]) -> str:
    """What `write` gave, for a card that asks for prose: the code, else the text of it."""
    for name in ("code", "critique", "task"):
        if name in written:
            return str(written[name])
    return json.dumps(written, ensure_ascii=False)


def code_of(parts: Mapping[str, object]) -> object:
    """The program in a run's parts, which is JSON with `code`, or text."""
    solution = parts.get("ai_solutions")
    return _mapping(solution).get("code", "") if isinstance(solution, Mapping) else solution


def _failure(parts: Mapping[str, object]) -> Mapping[str, object] | None:
    """The verdict of a run that failed; a fix request may hold it in place of the task."""
    for name in ("ai_verified_solutions", "ai_topic", "error"):
        found = parts.get(name)
        if name == "error" and isinstance(found, str) and found:
            return {"error": found}
        if _mapping(found).get("verdict") == "FAIL" or _mapping(found).get("error"):
            return _mapping(found)
    return None


def _lessons(parts: Mapping[str, object], asked: str) -> str:
    """The lessons from memory: the part `lessons`, else the section of that name in the prompt."""
    if "lessons" in parts:
        return json.dumps(parts["lessons"], ensure_ascii=False, default=str)
    return asked.partition("# lessons\n")[2].partition("\n# ")[0]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
