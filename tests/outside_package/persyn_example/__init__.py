"""What this package adds to PerSyn, a module each; see the entry points in pyproject.toml."""
