"""What a key is, and what is said of it."""
