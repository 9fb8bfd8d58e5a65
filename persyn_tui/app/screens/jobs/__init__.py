"""Screen 1: every job, and what all screens of one job share (`job_screen.py`, `control.py`)."""
