"""What a worker remembers of the keys that ended in it."""

from typing import Any, cast

from dedupe.farewell import Farewell


def test_what_is_remembered_of_keys_does_not_grow() -> None:
    """A worker executes any number of keys in its life, and remembers the last of them."""
    farewell = Farewell(cast("Any", None))
    for number in range(1_100):
        farewell.ended(f"key-{number}")
    assert list(farewell._ended)[::999] == ["key-100", "key-1099"]
