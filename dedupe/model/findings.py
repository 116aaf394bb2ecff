"""Findings: what became of an execution whose outcome is unknown, as whoever found out says it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeGuard, TypeVar, assert_never

from temporalio.api.common.v1 import Payload

from dedupe.model.names import MARK
from dedupe.model.outcome import Abandoned, Succeeded, encode_outcome

R = TypeVar("R")

_STILL_UNKNOWN = b"still unknown"


@dataclass(frozen=True)
class Happened(Generic[R]):
    """The effect happened. All calls with the key get this result."""

    result: R
    """What the activity would have returned; None where it returns nothing."""


@dataclass(frozen=True)
class DidNotHappen:
    """The effect did not happen, and will not: a call that waits executes the activity again, under the same
    idempotency key.
    """


@dataclass(frozen=True)
class StillUnknown:
    """Nobody can tell yet: it is asked again later."""


Finding = Happened[R] | DidNotHappen | StillUnknown


def is_finding(value: object) -> TypeGuard[Finding[Any]]:
    """Return whether a value is a finding."""
    return isinstance(value, Happened | DidNotHappen | StillUnknown)


def encode_finding(finding: Finding[R], *, encode: Callable[[R], Payload]) -> Payload:
    """Return the payload that records a finding, or says that there is none.

    Args:
        finding: What was found.
        encode: Encodes a result, as it is recorded.

    Raises:
        Exception: The payload converter does not take the result.
    """
    match finding:
        case Happened(result):
            return encode_outcome(Succeeded(encode(result)))
        case DidNotHappen():
            return encode_outcome(Abandoned())
        case StillUnknown():
            return Payload(metadata={"encoding": b"binary/null", MARK: _STILL_UNKNOWN})
        case _ as never:
            assert_never(never)


def is_still_unknown(payload: Payload) -> bool:
    """Return whether a payload says that nobody can tell yet."""
    return payload.metadata.get(MARK) == _STILL_UNKNOWN
