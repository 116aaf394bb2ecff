"""Providers' errors: what is retried, when, and what the message says."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from activities.errors import ErrorKind, provider_error, retry_after


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("0", timedelta(0)),
        ("7", timedelta(seconds=7)),
        ("1.5", timedelta(seconds=1.5)),
        ("-3", timedelta(0)),
        ("99999999999999", timedelta(days=1)),
        ("inf", timedelta(days=1)),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(0)),
        ("Wed, 21 Oct 2015 07:28:00 -0000", timedelta(0)),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_the_standard_says(value: str, delay: timedelta | None) -> None:
    """Seconds and dates are understood, what has passed is now, and nonsense is as if it were not there."""
    assert retry_after({"retry-after": value}) == delay


def test_retry_after_may_be_a_date() -> None:
    """A date is how long it is still away."""
    delay = retry_after(
        {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)}
    )
    assert delay is not None
    assert timedelta(minutes=1, seconds=50) < delay <= timedelta(minutes=2)


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_says_what_to_do(kind: ErrorKind) -> None:
    """A message says what happened and what to do, in one paragraph of a length that a history can hold."""
    failed = provider_error(kind, "It  said:\n\n" + "no " * 10_000, headers={"Retry-After": "1"})
    assert failed.message.startswith("It said: no no")
    assert failed.message.endswith(kind.advice)
    assert len(failed.message) < 1_200
    assert failed.next_retry_delay == (None if kind.definite else timedelta(seconds=1))
