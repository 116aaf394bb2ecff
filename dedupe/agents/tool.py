"""A tool of an agent, whatever the framework: an activity, its key, and what the model gets to read."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic_core import to_jsonable_python
from temporalio import workflow
from temporalio.exceptions import ActivityError

from dedupe.job.answer import waited_for_held
from dedupe.job.calls import execute_activity
from dedupe.model.declared import declared_by
from dedupe.sdk import definition_of
from dedupe.telemetry.answers import CallAnswer, answers_heard

DONE_BEFORE = "This had been done before, and was not done again. The result of the first time:"
"""What a model reads above the result of a call that executed nothing."""
NOBODY_KNOWS = (
    "Nobody knows whether this has taken effect: the attempt ended without an answer. It was not repeated. "
    "Do not call this tool for it again, and do not try to reach the same by another tool. Say that somebody "
    "has to find out."
)
"""What a model reads instead of the result of a call whose key is held."""


class ToolKey(StrEnum):
    """What the key of a tool call is made of, where the tool says no more."""

    ARGUMENTS = "arguments"
    """The workflow and the arguments: a model that asks for the same again gets what it had."""
    CALL = "call"
    """The workflow and the id that the model gave the call: the same again is done again."""


@dataclass(frozen=True, kw_only=True)
class KeyedTool:
    """An activity as a tool."""

    function: Callable[..., Any]
    """The activity. A method is not bound: the worker's own instance executes it."""
    key: Callable[..., str] | ToolKey | None
    """From the activity's arguments. None: as the activity declares it, or else `ToolKey.ARGUMENTS`."""
    options: Mapping[str, Any]
    """Of the call, as `dedupe.execute_activity` takes them."""

    def __post_init__(self) -> None:
        """Check what can be checked before a model asks for anything.

        Raises:
            ValueError: It is not an activity, or a held key would keep the agent waiting for ever.
        """
        name, declared = self.name, declared_by(self.function)
        options = {**({} if declared is None else declared.options), **self.options}
        held = options.get("on_unknown") == "hold" or options.get("reconcile") is not None
        if held and options.get("schedule_to_close_timeout") is None:
            raise ValueError(
                f"tool {name!r} holds unknown outcomes: give schedule_to_close_timeout, after which the "
                "model reads that nobody knows"
            )

    @property
    def name(self) -> str:
        """The activity's name.

        Raises:
            ValueError: It is not an activity, or a dynamic one.
        """
        definition = definition_of(self.function)
        if definition is None or definition.name is None:
            raise ValueError(f"{self.function!r} is not an activity with a name: put @activity.defn above it")
        return definition.name

    async def call(self, arguments: Sequence[Any], *, call_id: str) -> "ToolAnswer":
        """Execute the activity once per key. Runs in the workflow.

        Args:
            arguments: Of the activity.
            call_id: The model's id of this call.

        Raises:
            ActivityError: The activity failed, as a plain call would raise it.
            DedupeError: The call cannot be carried out.
        """
        options = dict(self.options)
        if (key := self._key(arguments, call_id)) is not None:
            options["deduplication_key"] = key
        with answers_heard() as answers:
            try:
                value = await execute_activity(self.function, args=arguments, **options)
            except ActivityError as error:
                if waited_for_held(error):
                    return ToolAnswer(value=None, said=NOBODY_KNOWS)
                raise
        repeated = answers[-1:] in ([CallAnswer.JOINED], [CallAnswer.REUSED])
        return ToolAnswer(value=value, said=DONE_BEFORE if repeated else None)

    def _key(self, arguments: Sequence[Any], call_id: str) -> str | None:
        """Return the call's key; None where the activity declares it."""
        job = workflow.info().workflow_id
        match self.key:
            case None if declared_by(self.function) is not None:
                return None
            case None | ToolKey.ARGUMENTS:
                content = json.dumps(to_jsonable_python(list(arguments)), sort_keys=True)
                return f"{job} {self.name} {hashlib.sha256(content.encode()).hexdigest()[:32]}"
            case ToolKey.CALL:
                return f"{job} {self.name} {call_id}"
            case made:
                return made(*arguments)


@dataclass(frozen=True, kw_only=True)
class ToolAnswer:
    """What came of a tool call."""

    value: Any
    """What the activity returned, now or the first time."""
    said: str | None
    """What the model has to read with it, or instead of it; None: it was executed now."""

    @property
    def is_known(self) -> bool:
        """Whether there is a value."""
        return self.said != NOBODY_KNOWS
