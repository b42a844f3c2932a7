"""Solutions: a program for a task, wrong at first now and then, mended when an error is told."""

from collections.abc import Mapping

from penstock.models.offline.coder.tasks import Task, known, names
from penstock.models.offline.storyteller import prose

#: What an unknown task gets. It runs, it reads its input, and it says that it is no answer.
_UNKNOWN = '''
import sys


def main():
    """Shows the input as it came: the offline coder does not know this task."""
    for line in sys.stdin:
        print(line.rstrip("\\n"))


main()
'''


def solve(
    task: object, *, failure: Mapping[str, object] | None, lessons: str, seed: str
) -> dict[str, str]:
    """`code` and `explanation` for the task.

    `failure` is the verdict on the version before, when there was one: then the program is right.
    It is right at once too when `lessons` speak of this kind of task.
    """
    found = known(task)
    dice = prose.dice_of("solution", seed)
    if found is None:
        return {
            "code": _UNKNOWN.lstrip(),
            "explanation": (
                "The offline coder knows only the tasks of its own producer, and this is none of"
                " them. The program hands its input on as it is; a model would solve it."
            ),
        }
    kind, number = found.kind, found.number
    if failure is not None:
        return {"code": kind.right(number), "explanation": _mended(found, failure)}
    if names(lessons, kind.name):
        learned = "The lessons speak of this kind of task, so their mistake was not made again."
        return {"code": kind.right(number), "explanation": f"{kind.how} {learned}"}
    begin = prose.pick(dice, ("", "This is the plain way. ", "No library beyond Python's own. "))
    return {"code": kind.first(number), "explanation": f"{begin}{kind.how}"}


def _mended(task: Task, failure: Mapping[str, object]) -> str:
    cause = prose.short(prose.clean(str(failure.get("cause") or "no pass")))
    said = failure.get("error") or failure.get("detail") or ""
    last = prose.short(prose.clean(str(said).rstrip().rpartition("\n")[2]))
    told = f"The last run failed ({cause}: {last})." if last else f"The last run failed ({cause})."
    slip = task.kind.slip(task.number)
    return f"{told} {slip.lesson if slip else 'The program was written again.'} {task.kind.how}"
