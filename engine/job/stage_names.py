"""The stages' names in order, for front ends that must not import the stages themselves."""

STAGES = (
    "prompts",
    "calibrate",
    "score",
    "train_router",
    "route",
    "generate",
    "build_dataset",
    "distill",
    "evaluate",
)
"""A test holds this equal to `engine.pipeline.pipeline.STAGES`."""
