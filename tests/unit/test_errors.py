"""Errors: closed, clear, and the same on both sides of the wire."""

import string
from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError

from dedupe.errors import DedupeError, DeduplicationConflictError, InvalidDeduplicationKeyError, _kinds

KINDS = _kinds(DedupeError)


def built(kind: type[DedupeError]) -> DedupeError:
    """Return an error with every fact that its template names."""
    facts: dict[str, Any] = {
        name: f"<{name}>" for _, name, _, _ in string.Formatter().parse(kind.template) if name
    }
    return kind(**facts)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_its_facts_and_is_not_retried(kind: type[DedupeError]) -> None:
    """Every error names its facts, is an `ApplicationError` of its own type, and is never retried."""
    error = built(kind)
    assert (error.type, error.non_retryable) == (kind.__name__, True)
    assert "{" not in error.message.replace("{user.id}", "")
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_itself_after_the_wire(kind: type[DedupeError]) -> None:
    """`restore` gives back the error that crossed the wire, with its class and message."""
    failure = Failure()
    sent = built(kind)
    DefaultFailureConverter().to_failure(sent, DefaultPayloadConverter(), failure)
    received = DefaultFailureConverter().from_failure(failure, DefaultPayloadConverter())
    assert isinstance(received, ApplicationError)
    restored = DedupeError.restore(received)
    assert restored is not None
    assert type(restored) is kind
    assert (restored.message, restored.type, restored.non_retryable) == (sent.message, sent.type, True)


def test_the_errors_of_others_are_left_alone() -> None:
    """An error that only looks like any error is not taken for one of these."""
    assert DedupeError.restore(ApplicationError("no")) is None
    assert DedupeError.restore(ApplicationError("no", type="ValueError")) is None


def test_the_public_errors_share_one_base() -> None:
    """One `except DedupeError` catches them all."""
    assert issubclass(DeduplicationConflictError, DedupeError)
    assert issubclass(InvalidDeduplicationKeyError, DedupeError)
