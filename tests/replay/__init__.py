"""Recorded histories, which must replay; and diverged ones, which must not."""
