"""Who answers a model call: the offline storyteller, or a provider of real models."""

#: Shown wherever the offline model's text is shown.
LABEL = "No model wrote this: sample text from Penstock's offline storyteller."


def wrote_offline(model: str) -> bool:
    """Whether the text of `model` is the offline model's."""
    return model.startswith("offline/")
