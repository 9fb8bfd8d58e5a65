"""Scorers: what gives each response its score."""
