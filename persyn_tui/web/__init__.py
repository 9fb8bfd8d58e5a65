"""The app in a browser: what `persyn serve` runs."""
