"""What a key is, and what is said of it. Pure: no clock, no server, no event loop. All others build on it."""
