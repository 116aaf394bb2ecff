"""The SDK's inside: everything this package relies on that `temporalio` does not promise.

Each has a fallback, or fails at once and clearly; `tests/unit/test_sdk.py` fails when a new SDK is different.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.worker import ActivityInboundInterceptor, Interceptor, Worker, WorkflowOutboundInterceptor

_DEFINITION = "__temporal_activity_definition"
"""Attribute in which `activity.defn` leaves the definition of an activity."""
_TRACER = "_tracer-data"
"""Header in which the SDK's interceptor and plugin for OpenTelemetry hand on the context of a trace."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""Version, id of the trace, id of the span, and flags, in hexadecimal: https://www.w3.org/TR/trace-context/"""


class Definition(Protocol):
    """What the SDK knows of an activity."""

    @property
    def name(self) -> str | None:
        """The name it is registered by; None: it is dynamic."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether it is asynchronous."""
        ...

    @property
    def ret_type(self) -> type | None:
        """What it is annotated to return; None: nothing is known."""
        ...


def definition_of(activity: object) -> Definition | None:
    """Return the definition of an activity; None where it has none."""
    return cast("Definition | None", getattr(activity, _DEFINITION, None))


def set_definition(function: object, definition: Definition, *, name: str) -> None:
    """Define an activity as another one is defined, under another name."""
    changed = dataclasses.replace(cast("Any", definition), name=name, fn=function)
    setattr(function, _DEFINITION, changed)


def traceparent_in(headers: Mapping[str, Payload]) -> str | None:
    """Return where the spans of a call belong, as its headers say; None: nothing traces it."""
    header = headers.get(_TRACER)
    if header is None:
        return None
    try:
        found = _TRACEPARENT.match(json.loads(header.data)["traceparent"])
    except (ValueError, TypeError, KeyError):  # another propagator's
        return None
    return None if found is None else found[0]


def name_of(activity: object) -> str:
    """Return the name that an activity is registered by, given as a function, a method or a name."""
    if isinstance(activity, str):
        return activity
    definition = definition_of(activity)
    name = None if definition is None else definition.name
    return name or str(getattr(activity, "__name__", activity))


def result_type_of(activity: object) -> type | None:
    """Return what an activity is annotated to return; None where it is given by name, or says nothing."""
    definition = definition_of(activity)
    return None if definition is None else definition.ret_type


def is_scheduled(handle: workflow.ActivityHandle[Any]) -> bool:
    """Return whether it is the SDK's own handle: of an activity that is run as it is, unprotected."""
    return type(handle).__module__.startswith("temporalio.worker")


def silence(handle: workflow.ActivityHandle[Any]) -> None:
    """Keep a handle from logging when it is dropped: a worker that stops drops its workflows as they are.

    The SDK silences its own handles the same way.
    """
    setattr(handle, "_log_destroy_pending", False)  # noqa: B010


def innermost(
    outbound: WorkflowOutboundInterceptor,
    wrap: Callable[[WorkflowOutboundInterceptor], WorkflowOutboundInterceptor],
) -> WorkflowOutboundInterceptor:
    """Put an interceptor next to the SDK itself, where it sees what all others add to a call.

    Otherwise the place in the list would decide, and interceptors of the client always come first.
    """
    following: WorkflowOutboundInterceptor | None = getattr(outbound, "next", None)
    if following is None:
        return wrap(outbound)
    outbound.next = innermost(following, wrap)
    return outbound


def put_outermost(worker: Worker, ours: type[Interceptor]) -> None:
    """Make an interceptor of a worker's activities the first one, before those of its client.

    Otherwise what is recorded could be another value than the job gets: one that an interceptor has changed
    since.
    """
    activities = getattr(worker, "_activity_worker", None)
    interceptors = getattr(activities, "_interceptors", None)
    if interceptors is not None:
        ordered = sorted(interceptors, key=lambda each: not isinstance(each, ours))
        setattr(activities, "_interceptors", ordered)  # noqa: B010


Cancel = Callable[..., None]


class Cancellation:
    """What cancels a running activity, and the reason that the activity can read."""

    def __init__(self, running: Any) -> None:
        """Take hold of the SDK's record of a running activity."""
        self._running = running

    @property
    def cancel(self) -> Cancel:
        """What the SDK calls to cancel the activity."""
        return cast("Cancel", self._running.cancel)

    @cancel.setter
    def cancel(self, cancel: Cancel) -> None:
        self._running.cancel = cancel

    @property
    def details(self) -> activity.ActivityCancellationDetails | None:
        """Why it was cancelled; None: it was not."""
        return cast("activity.ActivityCancellationDetails | None", self._running.cancellation_details.details)

    @details.setter
    def details(self, details: activity.ActivityCancellationDetails | None) -> None:
        self._running.cancellation_details.details = details


def cancellation_of(inbound: ActivityInboundInterceptor) -> Cancellation | None:
    """Return what cancels the activity that an interceptor executes; None where this SDK has it elsewhere."""
    last: Any = inbound
    while (following := getattr(last, "next", None)) is not None:
        last = following
    running = getattr(last, "_running_activity", None)
    details = getattr(running, "cancellation_details", None)
    return Cancellation(running) if hasattr(running, "cancel") and hasattr(details, "details") else None
