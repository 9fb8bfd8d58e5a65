"""Screen 1 and what the live screens share of a job."""
