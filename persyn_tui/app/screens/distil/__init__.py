"""Screen 6: the students of all strategies: loss curves, accuracy before and after, their own responses."""
