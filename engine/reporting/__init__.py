"""What a run would cost, and what a finished one has to show."""
