"""The door to the service."""
