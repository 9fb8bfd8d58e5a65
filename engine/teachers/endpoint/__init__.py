"""The client of OpenAI-compatible servers: pace, retries, and what a reply means."""
