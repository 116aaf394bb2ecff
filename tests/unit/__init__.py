"""What needs no server: pure functions, settings and transports."""
