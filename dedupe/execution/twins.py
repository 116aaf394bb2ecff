"""Twins: each activity of a worker, once more under `dedupe:<name>`, to be executed under a key.

A twin has the definition of its original (types, sync or async), so the SDK treats it as that activity.
Nothing runs it as it is: the interceptor puts the original in its place. A worker without the plugin knows no
such type, so a call that asked for protection never runs without.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from temporalio.exceptions import ApplicationError

from dedupe.execution.current import CURRENT, Execution
from dedupe.model.names import TWIN
from dedupe.sdk import Definition, definition_of, set_definition


class Twin:
    """Stands in a worker's registry for an activity that is executed under a key."""

    def __init__(self, original: Callable[..., Any], definition: Definition) -> None:
        """Take the place of `original`, whose definition this is."""
        self.original = original
        set_definition(self, definition, name=f"{TWIN}{definition.name}")

    def __call__(self, *_: Any) -> Any:
        """Refuse: only the interceptor knows the key.

        Raises:
            ApplicationError: Always.
        """
        raise ApplicationError("this worker lacks the interceptor of DedupePlugin: not executed")

    def __reduce__(self) -> Any:
        """Pickle by the original: process pools insist that what is registered can be pickled."""
        return twin_of, (self.original,)


class AsyncTwin(Twin):
    """The twin of an asynchronous activity."""

    async def __call__(self, *_: Any) -> Any:
        """Refuse, as any twin."""
        super().__call__()


def twin_of(activity: object) -> Twin | None:
    """Return the twin of an activity; None where it has none: it is dynamic, or not an activity."""
    definition = definition_of(activity)
    if definition is None or definition.name is None or not callable(activity):
        return None
    return (AsyncTwin if definition.is_async else Twin)(activity, definition)


def twins_of(activities: Iterable[object]) -> list[Twin]:
    """Return the twins of those activities that have one."""
    return [twin for twin in map(twin_of, activities) if twin is not None]


def name_of(twin: Twin) -> str:
    """Return the name that the twin's original is registered by."""
    definition = definition_of(twin)
    return "" if definition is None or definition.name is None else definition.name.removeprefix(TWIN)


class InProcess:
    """A function that a process pool runs, where it finds the execution it belongs to."""

    def __init__(self, function: Callable[..., Any], execution: Execution) -> None:
        """Bind the function to an execution."""
        self._function = function
        self._execution = execution
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run the function."""
        token = CURRENT.set(self._execution)
        try:
            return self._function(*arguments)
        finally:
            CURRENT.reset(token)

    def __reduce__(self) -> Any:
        """Pickle without what `update_wrapper` added."""
        return type(self), (self._function, self._execution)
