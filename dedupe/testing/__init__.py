"""For tests of one's own jobs: an environment with keys, where time moves only as the test says.

It runs in the process of the tests. Nothing else of the package imports it.
"""

from dedupe.testing.environment import DedupeEnvironment, environment
from dedupe.testing.passthrough import passthrough

__all__ = ["DedupeEnvironment", "environment", "passthrough"]
