"""Small real models that come with the package, and where others are fetched from."""
