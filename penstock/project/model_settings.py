"""Model settings: what a card may say beyond Penstock's own keys of how its model is asked.

The SDK knows their names and types. It takes a second to import, for cards that say any of them.
"""

import dataclasses
import functools
import typing
from typing import Any

import pydantic
from agents import ModelSettings
from openai.types.shared import Reasoning

from penstock.project.front_matter import Front

#: Those of the SDK's that are Penstock's to set: time-outs, tries, the count of tokens.
OURS = ("timeout", "retry", "include_usage", "preserve_raw_usage")
EFFORT = "reasoning_effort"
#: What many servers take and the SDK has no name for; what others take stands in `extra_body`.
SERVERS: dict[str, Any] = {
    "seed": int,
    "stop": str | list[str],
    "top_k": int,
    "min_p": float,
    "repeat_penalty": float,
    "repetition_penalty": float,
}


@functools.cache
def front_with_settings() -> type[Front]:
    """The front matter of a card with every setting that there is."""
    types: dict[str, Any] = typing.get_type_hints(ModelSettings, include_extras=True)
    types |= {name: kind | None for name, kind in SERVERS.items()}
    types |= {EFFORT: Reasoning.model_fields["effort"].annotation}
    types |= {"extra_body": dict[str, Any] | None}
    names = [field.name for field in dataclasses.fields(ModelSettings)] + [EFFORT, *SERVERS]
    added: dict[str, Any] = {
        name: (types[name], None) for name in names if name not in (*OURS, *Front.model_fields)
    }
    return pydantic.create_model("Front", __base__=Front, **added)


def settings_of(front: Front) -> dict[str, Any]:
    """What `front` says beyond Penstock's own keys, as the SDK's settings."""
    said = {name: getattr(front, name) for name in front.extra_settings}
    effort = said.pop(EFFORT, None)
    if effort is not None:
        said["reasoning"] = (said.get("reasoning") or Reasoning()).model_copy(
            update={"effort": effort}
        )
    servers = {name: said.pop(name) for name in SERVERS if name in said}
    if servers:
        said["extra_body"] = {**(said.get("extra_body") or {}), **servers}
    return said
