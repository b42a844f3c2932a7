"""The coder: what is written for a part of a run of the mesh, from the parts that are there.

Its programs are real: they are run, some are wrong at first, and it mends them when it is told of
the error.
"""

import json
from collections.abc import Mapping
from typing import Any

from penstock.models.offline import prose
from penstock.models.offline.data import load
from penstock.models.offline.reviews import glance, review, why_failed
from penstock.models.offline.tasks import brainstorm, known, names

#: The parts that the coder writes: a task, a solution, a review, and a first look at code.
PARTS = ("ai_topic", "ai_solutions", "ai_reviews", "ai_telemetry")


def write(part: str, parts: Mapping[str, object], asked: str, seed: str) -> dict[str, object]:
    """Return the run's next part as the JSON that the mesh's cards ask for.

    Any value is accepted in any part and a missing one is none. `asked` is the whole prompt, in
    which titles that were made before may stand. Raises `ValueError` for another part.
    """
    task, solution = parts.get("ai_topic", asked), parts.get("ai_solutions")
    code = str((solution.get("code") if isinstance(solution, Mapping) else solution) or "")
    match part:
        case "ai_topic":
            told = json.dumps(parts, ensure_ascii=False, default=str)
            return {**brainstorm(f"{asked}\n{told}", seed)}
        case "ai_solutions":
            return _solve(task, _failure(parts), _lessons(parts), seed)
        case "ai_reviews":
            result = _mapping(parts.get("ai_verified_solutions")) or _failure(parts)
            return review(parts.get("ai_topic"), code, result, seed)
        case "ai_telemetry":
            return {"critique": glance(code, str(_mapping(task).get("title", "")), seed)}
    raise ValueError(f"the coder writes {', '.join(PARTS)}; it was asked for {part!r}")


def as_text(written: Mapping[str, object]) -> str:
    """Return what `write` gave, for a card that asks for prose: the code, else the text of it."""
    texts = (str(written[name]) for name in ("code", "critique", "task") if name in written)
    return next(texts, "") or json.dumps(written, ensure_ascii=False)


def _solve(
    task: object, failure: Mapping[str, Any] | None, lessons: str, seed: str
) -> dict[str, object]:
    """A program, wrong at first now and then, and how it works.

    It is right when the failure of the version before is told, and at once when `lessons` speak
    of this kind of task.
    """
    said, found = load("solutions"), known(task)
    if found is None:
        return dict(said["unknown"])
    learned = failure is not None or names(lessons, found.kind)
    form = "mended" if failure is not None else "learned" if learned else "plainly"
    slots = prose.Slots(how=found.how, lesson=found.lesson or said["again"])
    slots["why"] = why_failed(failure or {})
    explanation = prose.render(said[form], prose.dice_of("solution", seed), slots)
    return {"code": found.right if learned else found.first, "explanation": explanation}


def _failure(parts: Mapping[str, object]) -> Mapping[str, Any] | None:
    """The verdict of a run that failed; a fix request may hold it in place of the task."""
    error = parts.get("error")
    told = {"error": error} if isinstance(error, str) else error
    verdicts = map(_mapping, (parts.get("ai_verified_solutions"), parts.get("ai_topic"), told))
    return next((one for one in verdicts if one.get("verdict") == "FAIL" or one.get("error")), None)


def _lessons(parts: Mapping[str, object]) -> str:
    """The lessons from memory."""
    return json.dumps(parts.get("lessons", ""), ensure_ascii=False, default=str)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
