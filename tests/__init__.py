"""The tests, in tiers: unit, workflow, replay, integration, typing."""
