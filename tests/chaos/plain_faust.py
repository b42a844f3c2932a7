"""The comparison: the same four calls in hand-written Faust, as people write it.

`python -m tests.chaos.plain_faust worker`: agents with `concurrency`, `await topic.send(...)`, on
Faust's own consumer. Tuned as Penstock is: a short session, big batches.
"""

import os
from typing import Any

import faust
import openai

STAGES = 4
NAME = "plain"
TOPICS = tuple(f"{NAME}-{number}" for number in range(STAGES + 1))
PARTITIONS = int(os.environ.get("PLAIN_PARTITIONS", "4"))


class Draft(faust.Record, serializer="json"):
    trace_id: str
    text: str


def make() -> faust.App:
    app = faust.App(
        os.environ["PLAIN_ID"],
        broker=os.environ["PLAIN_BROKER"],
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        datadir=os.environ["PLAIN_DATA"],
        web_enabled=False,
        broker_session_timeout=float(os.environ["PLAIN_SESSION_S"]),
        broker_heartbeat_interval=float(os.environ["PLAIN_SESSION_S"]) / 4,
        producer_max_batch_size=262_144,
    )
    client = openai.AsyncOpenAI(base_url=os.environ["PLAIN_MODEL"], api_key="none", max_retries=2)
    topics = [app.topic(name, value_type=Draft) for name in TOPICS]

    def add(number: int) -> None:
        async def run(stream: Any) -> None:
            async for draft in stream:
                answer = await client.chat.completions.create(
                    model="scripted",
                    messages=[
                        {"role": "system", "content": f"You are number {number}."},
                        {"role": "user", "content": f"{draft.trace_id}: {draft.text}"},
                    ],
                )
                made = Draft(trace_id=draft.trace_id, text=answer.choices[0].message.content)
                await topics[number + 1].send(key=draft.trace_id, value=made)

        run.__name__ = run.__qualname__ = f"agent_{number}"
        app.agent(topics[number], name=f"agent_{number}", concurrency=50)(run)

    for number in range(STAGES):
        add(number)

    return app


if __name__ == "__main__":
    make().main()
