"""Screen 2: the registered models, their form, and a try by hand."""
