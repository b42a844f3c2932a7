"""The command `lag`: how far behind the readers of each topic are."""

import msgspec

from penstock.client import Client
from penstock.commands.command import Context
from penstock.commands.printing import put, put_json
from penstock.project.project import Project
from penstock.worker.governor import THROTTLED, GovernorState, governed, judge


def read_lags(client: Client, project: Project) -> list[tuple[str, str, int, GovernorState | None]]:
    """Pipeline, topic, how many of its events are not finished, and its governor's state, for each
    topic that somebody reads."""
    found = []
    for chain in project.chains.values():
        for topic in chain.topics:
            readers = [stage.name for stage in chain.stages if stage.reads == topic]
            if not readers:
                continue
            lag = max(client.broker.unfinished(name, topic) for name in readers)
            spec = chain.governor
            held = spec is not None and topic in governed(chain, spec)
            state = judge(spec, topic, lag) if spec is not None and held else None
            found.append((chain.name, topic, lag, state))
    return found


def lag(context: Context) -> None:
    context.project.require_sound()
    with context.client() as client:
        rows = read_lags(client, context.project)
        unread = client.unread()
    if context.as_json:
        put_json(
            [
                {
                    "pipeline": pipeline,
                    "topic": topic,
                    "lag": count,
                    "governor": None if state is None else msgspec.to_builtins(state),
                }
                for pipeline, topic, count, state in rows
            ]
            + [
                {"pipeline": None, "topic": one.topic, "lag": one.count, "governor": None}
                for one in unread
            ]
        )
        return
    for pipeline, topic, count, state in rows:
        held = ""
        if state is not None:
            sign = "🛑 " if state.state == THROTTLED else ""
            held = f"  {sign}{state.state} (limit {state.limit})"
        put(f"{pipeline:<16} {topic:<24} {count:>8}{held}")
    for one in unread:
        put(f"{'-':<16} {one.topic:<24} {one.count:>8}  🛑 {one}")
