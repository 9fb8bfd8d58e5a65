"""The stages in order, and the process that runs them."""
