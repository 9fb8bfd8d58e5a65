"""The terminal front end: the command `persyn`. Never imports torch."""
