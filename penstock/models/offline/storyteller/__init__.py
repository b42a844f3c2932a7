"""A small storyteller without a model: the same parts and seed always give the same text.

It answers when no real model is configured, so that a pipeline can be read from end to end a
minute after it is installed. Each text is made from the texts before it: the story follows the
plot it is given (an edited plot gives another story), the critique quotes the story, and the
final version changes the story in the places that the critique names.
"""

from penstock.models.offline.storyteller.filling import fill
from penstock.models.offline.storyteller.prose import content_of
from penstock.models.offline.storyteller.telling import KINDS, reply, tell

__all__ = ["KINDS", "content_of", "fill", "reply", "tell"]
