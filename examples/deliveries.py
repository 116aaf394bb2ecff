"""Deliveries: the lines of a file of sign-up events, as an at-least-once webhook delivers them.

A line is one delivery. An event that was not acknowledged in time is delivered again, with the same event id;
events may come out of order; and two deliveries may come at the same moment.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from activities.worker_settings import StartupError
from workflows.user import User


class SignedUp(BaseModel):
    """A sign-up event; what else a line holds is ignored."""

    model_config = ConfigDict(frozen=True)

    id: str
    """The event's: the same whenever it is delivered again."""
    type: Literal["user.signed_up"]
    user: User
    delivered_at: AwareDatetime | None = None
    """Deliveries in a row with the same time come at the same moment; None: on its own."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One line that can be read."""

    line: int
    event: SignedUp


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """One line that cannot."""

    line: int
    reason: str


def read(file: str) -> tuple[list[Delivery], list[BadLine]]:
    """Return the deliveries in a file, `-` being stdin, in their order.

    Raises:
        StartupError: The file cannot be read, or holds no line.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}. Name a file of sign-up events.") from error
    deliveries: list[Delivery] = []
    bad: list[BadLine] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            deliveries.append(Delivery(line=number, event=SignedUp.model_validate_json(line)))
        except ValidationError as error:
            bad.append(BadLine(line=number, reason=_reason(error)))
    if not deliveries and not bad:
        raise StartupError(
            f"{file} holds no line. It takes one JSON object a line: see examples/signups.jsonl"
        )
    return deliveries, bad


def moments(deliveries: Iterable[Delivery]) -> list[list[Delivery]]:
    """Return the deliveries in their order, those of the same moment together."""
    return [list(same) for _, same in groupby(deliveries, key=_moment)]


def _moment(delivery: Delivery) -> object:
    return delivery.event.delivered_at or delivery.line


def _reason(error: ValidationError) -> str:
    reasons: list[str] = []
    for fault in error.errors(include_url=False):
        where = ".".join(map(str, fault["loc"]))
        match fault["type"]:
            case "string_pattern_mismatch":
                reasons.append(f"{where} {fault['input']!r} has not the form it needs")
            case "missing":
                reasons.append(f"{where} is missing")
            case _:
                reasons.append(f"{where}: {fault['msg']}" if where else fault["msg"])
    return "; ".join(reasons)
