"""A service in memory, on which the protocol's own code is driven step by step."""
