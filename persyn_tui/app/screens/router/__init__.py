"""Screen 3: which teacher each prompt gets and why, and what another α would change."""
