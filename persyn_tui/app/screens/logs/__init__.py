"""Screen 7."""
