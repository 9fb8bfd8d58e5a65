"""What one job works with: its run, its progress, what it was asked to do, and the hashes of its results."""
