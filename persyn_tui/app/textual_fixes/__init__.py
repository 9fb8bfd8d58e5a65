"""What works around Textual; each file says what it works around and when it can go."""
