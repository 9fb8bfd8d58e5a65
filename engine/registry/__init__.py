"""Models of a run file and of the store: one as the other, and new ones."""
