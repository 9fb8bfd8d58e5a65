"""Teachers' responses: who is asked when, and how the store is filled."""
