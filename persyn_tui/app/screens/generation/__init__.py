"""Screen 4: who is asked, how fast, at what cost, and the newest responses."""
