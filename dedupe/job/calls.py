"""What a job writes: `execute_activity` and `start_activity`, as in `temporalio.workflow`, with a key.

The call goes through the SDK's own `start_activity`; what is new about it travels beside it in a context
variable, which the interceptor takes up. Without the interceptor nothing is scheduled: a call that asked for
protection never runs unprotected.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from temporalio import workflow
from temporalio.types import (
    CallableAsyncNoParam,
    CallableAsyncSingleParam,
    CallableSyncNoParam,
    CallableSyncSingleParam,
    MethodAsyncSingleParam,
    MethodSyncSingleParam,
)

from dedupe.errors import InvalidCallError, InvalidDeduplicationKeyError, PluginMissingError
from dedupe.model.declared import Declared, KeyOptions, declared_by, declared_key
from dedupe.model.failed_result import FailedResult
from dedupe.model.keys import Scope, ScopedKey
from dedupe.sdk import is_scheduled, name_of

SCOPED = "dedupe.scoped"
"""Extern function that gives a key its scope: `Keyspace.scoped`. The interceptor brings it."""

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")
Ps = ParamSpec("Ps")


@dataclass(frozen=True, kw_only=True)
class Deduplication:
    """What a deduplicated call says beyond a plain one."""

    activity: str
    """By its registered name. Others that an interceptor starts on the way are not meant."""
    key: str
    """As the job gave it."""
    scoped: ScopedKey
    skip_failure: bool
    ttl: timedelta | None
    on_mismatch: str | None
    """None: as the plugin has it."""
    on_unknown: str | None
    """None: "hold" where the call reconciles, "repeat" where not."""
    reconcile: object
    """The activity that finds out: a function, a method, or a name; None: there is none."""


CALL: ContextVar[Deduplication | None] = ContextVar("dedupe-call", default=None)
"""The call that is just being started. Set for the length of one synchronous call."""


class CallOptions(workflow.ActivityConfig, KeyOptions, total=False):
    """Options of a deduplicated call: those of any activity, and these."""

    deduplication_key: str
    """Calls with the same key, inside the scope, share one successful execution. An activity that declares
    its key (`dedupe.keyed`) needs none."""


_NO_ARGUMENT: Any = object()


@overload
def start_activity(
    activity: CallableAsyncNoParam[R],
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: CallableSyncNoParam[R],
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: CallableAsyncSingleParam[P, R],
    arg: P,
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: CallableSyncSingleParam[P, R],
    arg: P,
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: MethodAsyncSingleParam[S, P, R],
    arg: P,
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: MethodSyncSingleParam[S, P, R],
    arg: P,
    *,
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: Callable[..., Awaitable[R]],
    *,
    args: Sequence[Any],
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: Callable[..., R],
    *,
    args: Sequence[Any],
    skip_failure: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R]: ...


@overload
def start_activity(
    activity: CallableAsyncNoParam[R],
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: CallableSyncNoParam[R],
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: CallableAsyncSingleParam[P, R],
    arg: P,
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: CallableSyncSingleParam[P, R],
    arg: P,
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: MethodAsyncSingleParam[S, P, R],
    arg: P,
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: MethodSyncSingleParam[S, P, R],
    arg: P,
    *,
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: Callable[..., Awaitable[R]],
    *,
    args: Sequence[Any],
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: Callable[..., R],
    *,
    args: Sequence[Any],
    skip_failure: bool,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[R | FailedResult]: ...


@overload
def start_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = None,
    skip_failure: bool = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[Any]: ...


def start_activity(
    activity: Any,
    arg: Any = _NO_ARGUMENT,
    *,
    args: Sequence[Any] = (),
    result_type: type | None = None,
    skip_failure: bool = False,
    **options: Unpack[CallOptions],
) -> workflow.ActivityHandle[Any]:
    """Start an activity that takes effect once per key, and return its handle.

    Takes what `temporalio.workflow.start_activity` takes, and `CallOptions`.

    Args:
        activity: The activity: function, method, or name.
        arg: Its only argument.
        args: Its arguments, where they are not one.
        result_type: What to decode the result to, where the activity is given by name.
        skip_failure: Whether a failure, fresh or recorded, is returned as a `FailedResult`, so that the job
            goes on. If not, a fresh failure is raised and a recorded one is executed again.
        **options: See `CallOptions`. `schedule_to_close_timeout` also bounds the wait of this call.
            An `activity_id` names this call, with a number behind it, and not the execution.
            Cancelling the handle detaches this call; the execution goes on.

    Raises:
        DedupeError: The call cannot be carried out; nothing was executed.
    """
    name = name_of(activity)
    lent = cast("Mapping[str, Callable[..., ScopedKey]]", workflow.extern_functions())
    if SCOPED not in lent:
        raise PluginMissingError(activity=name)
    arguments = args if arg is _NO_ARGUMENT else [arg]
    plain: dict[str, Any] = {**options}
    if (declared := declared_by(activity)) is not None:
        plain = {**declared.options, **plain}
        if "deduplication_key" not in plain:
            plain["deduplication_key"] = _key_of(name, declared, arguments)
    if "deduplication_key" not in plain:
        raise InvalidDeduplicationKeyError(
            reason=f"the call of activity {name!r} gives none, and no activity declares it: give "
            "deduplication_key, or the activity itself, under @dedupe.keyed"
        )
    key = plain.pop("deduplication_key")
    scope = plain.pop("deduplication_scope", Scope.PROJECT)
    call = Deduplication(
        activity=name,
        key=key,
        scoped=lent[SCOPED](key, scope=scope, job=workflow.info().workflow_type),
        skip_failure=skip_failure,
        ttl=plain.pop("deduplication_ttl", None),
        on_mismatch=plain.pop("on_mismatch", None),
        on_unknown=plain.pop("on_unknown", None),
        reconcile=plain.pop("reconcile", None),
    )
    if arg is not _NO_ARGUMENT:
        plain["arg"] = arg
    token = CALL.set(call)
    try:
        handle: workflow.ActivityHandle[Any] = workflow.start_activity(
            activity, args=args, result_type=result_type, **plain
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidCallError(activity=name, key=call.scoped.key, reason=str(error)) from error
    finally:
        CALL.reset(token)
    if is_scheduled(handle):
        handle.cancel()  # before the command has left
        reason = "an interceptor of this worker started another activity instead, or does not use its `next`"
        raise InvalidCallError(activity=name, key=call.scoped.key, reason=reason)
    return handle


def _key_of(activity: str, declared: Declared, arguments: Sequence[Any]) -> str:
    try:
        return declared_key(declared, arguments)
    except ValueError as error:
        raise InvalidCallError(activity=activity, key="", reason=str(error)) from error


def _awaited(
    start: Callable[Ps, workflow.ActivityHandle[R]],
) -> Callable[Ps, Coroutine[Any, Any, R]]:
    """Return a function that starts an activity and waits for its result. It has all overloads of `start`."""

    async def execute_activity(*args: Ps.args, **kwargs: Ps.kwargs) -> R:
        """Execute an activity once per key, and return its result.

        Takes what `start_activity` takes.

        Returns:
            What the activity returned, to this call or to the first one with the key; a `FailedResult` where
            it failed and `skip_failure` is set.

        Raises:
            ActivityError: The activity failed; as a plain call would raise it.
            DedupeError: The call cannot be carried out, or its answer cannot be read.
        """
        return await start(*args, **kwargs)

    return execute_activity


execute_activity = _awaited(start_activity)
