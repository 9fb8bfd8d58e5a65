"""From responses to labels: scores are filled in, put on one scale, and become rewards."""
