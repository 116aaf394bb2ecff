"""Holds: a count of the executions that nobody knows the end of, where they are held."""

from temporalio import activity


def count_hold() -> None:
    """Count one. Runs in the activity that holds the key; elsewhere it does nothing."""
    if activity.in_activity():
        activity.metric_meter().create_counter(
            "dedupe_holds", "Executions that were held, since nobody knows whether their effect happened"
        ).add(1)
