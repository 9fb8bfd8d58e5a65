"""The nine stages; `engine.pipeline.pipeline` has their order and is the only place that imports them."""
