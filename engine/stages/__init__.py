"""The nine stages; `engine.pipeline` has their order and is the only place that imports them."""
