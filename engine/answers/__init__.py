"""Teachers' answers: who is asked when, what that costs, and how the store is filled."""
