"""Models on this machine and in the registry: what their files say, how they are loaded."""
