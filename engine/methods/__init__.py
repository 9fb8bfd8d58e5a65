"""The method as pure functions over arrays: rewards, strategies, metrics and their statistics."""
