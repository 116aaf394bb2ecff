"""Recorded histories, which must replay; and diverged ones, which must not.

- `corpus`: where they lie, and how they are read.
- `shapes`: what a job and its key may go through.
- `record`: how they were recorded; run by hand when a shape is added.
"""
