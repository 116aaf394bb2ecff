"""The tests, in tiers: unit, workflow, replay, integration, typing. They share `support` and `fakes`."""
