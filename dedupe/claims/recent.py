"""The latest of many: what a worker remembers without growing for ever."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers what was noted last."""

    def __init__(self, most: int) -> None:
        """Remember nothing yet.

        Args:
            most: How much is remembered. Beyond, what was noted longest ago is forgotten.
        """
        self._most = most
        self._noted: dict[K, V] = {}

    def note(self, key: K, value: V) -> None:
        """Remember a value, as the latest."""
        self._noted.pop(key, None)
        self._noted[key] = value
        if len(self._noted) > self._most:
            del self._noted[next(iter(self._noted))]

    def get(self, key: K) -> V | None:
        """Return what was noted; None where nothing is remembered."""
        return self._noted.get(key)

    def take(self, key: K) -> V | None:
        """Return what was noted, and forget it."""
        return self._noted.pop(key, None)

    def __len__(self) -> int:
        """Return how much is remembered."""
        return len(self._noted)
