"""Declared keys: an activity says itself what its key is, so that its call sites cannot drift apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from dedupe.model.keys import Scope

ActivityT = TypeVar("ActivityT", bound=Callable[..., Any])

_DECLARED = "__dedupe_declared"
"""Attribute in which `keyed` leaves what an activity declares."""


class KeyOptions(TypedDict, total=False):
    """What a call may say of its key. An activity may declare the same."""

    deduplication_scope: Scope
    """How far the key reaches; `Scope.PROJECT` by default."""
    deduplication_ttl: timedelta | None
    """How long the outcome is kept, from settlement; None, the default: for ever."""
    on_mismatch: Literal["reuse", "raise"]
    """What other arguments under the same key mean: "reuse" (the default, unless the plugin says otherwise):
    nothing, the key is the identity; "raise": a `DeduplicationConflictError`."""
    on_unknown: Literal["repeat", "hold"]
    """What is done where an attempt ended without an answer, so that nobody knows whether its effect
    happened: "repeat" (the default): it is attempted again, as in Temporal, under the same idempotency key;
    "hold": the key is held, and all calls wait, until `reconcile` or `DedupeKeys.resolve` says what happened.
    """
    reconcile: Callable[..., Any] | str
    """An activity on the job's own task queue that finds out what became of an attempt without an answer. It
    gets the call's arguments and options, and `current_execution()`, and returns a `Finding`:
    `Happened(result)`, `DidNotHappen()` or `StillUnknown()`; after the last it is asked again, ever less
    often. Means on_unknown="hold"."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What an activity declares of its key."""

    key: Callable[..., str]
    """From the activity's arguments."""
    options: KeyOptions = field(default_factory=KeyOptions)


def keyed(key: Callable[..., str], **options: Unpack[KeyOptions]) -> Callable[[ActivityT], ActivityT]:
    """Declare the deduplication key of an activity, for calls that give none.

    `@dedupe.keyed(lambda user: f"welcome-email-{user.id}")` above or below `@activity.defn`. A call by the
    activity's name has to give its key itself.

    Args:
        key: Returns the key for the activity's arguments (a method's without `self`). It is called in the
            workflow, so it has to return the same for the same arguments, and do nothing else.
        **options: See `KeyOptions`. What a call says itself wins.
    """

    def declare(activity: ActivityT) -> ActivityT:
        setattr(activity, _DECLARED, Declared(key=key, options=options))
        return activity

    return declare


def declared_by(activity: object) -> Declared | None:
    """Return what an activity declares; None where it declares nothing, or is given by its name."""
    declared = getattr(activity, _DECLARED, None)
    return declared if isinstance(declared, Declared) else None


def declared_key(declared: Declared, arguments: Sequence[Any]) -> str:
    """Return the key that a declaration makes of a call's arguments.

    Raises:
        ValueError: It makes none of them.
    """
    try:
        return declared.key(*arguments)
    except Exception as error:
        message = f"its declared key cannot be made of these arguments: {type(error).__name__}: {error}"
        raise ValueError(message) from error
