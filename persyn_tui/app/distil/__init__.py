"""Screen 6."""
