"""The router: which teacher suits which prompt for this student, learned from a calibration set."""
