"""What the screens know between two reads, and what they ask of the app."""
