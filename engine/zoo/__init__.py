"""Small real models that come with the package, and the names of those that can be fetched."""
