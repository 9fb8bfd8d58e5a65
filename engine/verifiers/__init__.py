"""Verifiers: whether a response is right, by its prompt's reference answer."""
