"""What holds for every test."""

import os

# Of the tiny models, more threads only wait for each other, and for those of the other worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")
