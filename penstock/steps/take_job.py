"""The step `take_job`: a job is looked at, and takes its name, before its agent is asked."""

from penstock.errors import JobRefused
from penstock.record.jobs import TOPICS, check_job
from penstock.steps import Work


async def take_job(work: Work) -> bool:
    """Whether the agent is to be asked: False for a job that was pushed before. Raises `JobRefused`
    for what is no job, and for a job under a name that another has."""
    event = work.event
    found = next((event.parts[topic] for topic in TOPICS.values() if topic in event.parts), None)
    job = check_job(found)
    if job.trace_id != event.trace_id and event.forked_from is None:
        raise JobRefused(
            f"job '{job.name}' is not on the run of its name: push it (penstock push-job)"
        )
    claim = await work.claim(job.digest)
    if claim.value != job.digest:
        raise JobRefused(
            f"the name '{job.name}' is taken by another job, which was here first:"
            " give this one a name of its own"
        )
    # The same job at another place was pushed twice; a replay is of the one that had its turn.
    return claim.mine or event.replay > 0
