"""Against a real server: processes that die, containers that stall, networks that go away."""
