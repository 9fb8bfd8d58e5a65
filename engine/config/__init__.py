"""The run file: its sections, its paths, and how it is read."""
