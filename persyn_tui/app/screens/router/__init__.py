"""Screen 3."""
