"""Tools for agents of the OpenAI Agents SDK that run on Temporal (`temporalio.openai_agents`)."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from agents import FunctionTool, Tool
from agents.function_schema import FuncSchema, function_schema
from agents.tool_context import ToolContext

from dedupe.agents.tool import KeyedTool, ToolKey


def keyed_activity_as_tool(
    function: Callable[..., Any],
    *,
    deduplication_key: Callable[..., str] | ToolKey | None = None,
    strict_json_schema: bool = True,
    **options: Any,
) -> Tool:
    """Return an activity as a tool that takes effect once per key, however often a model calls it.

    Stands where `activity_as_tool` of the integration does. A model that repeats a call reads that it had
    been done before, and its result; where nobody knows whether it was done, that it must not be repeated.
    What the activity raises ends the agent's run, as with a plain tool.

    Args:
        function: The activity; a method is given as `Class.method`.
        deduplication_key: Returns the key for the activity's arguments; or what it is made of. None: as the
            activity declares it by `@dedupe.keyed`, or else of the workflow's id and the arguments.
        strict_json_schema: Whether the model has to keep to the schema strictly.
        **options: As `dedupe.execute_activity` takes them. Where unknown outcomes are held, a
            `schedule_to_close_timeout` has to be among them.

    Raises:
        ValueError: It is not an activity, or the time-out is missing.
    """
    tool = KeyedTool(function=function, key=deduplication_key, options=options)
    schema = function_schema(_unbound(function), strict_json_schema=strict_json_schema)

    async def invoke(context: ToolContext[Any], given: str) -> str:
        answer = await tool.call(_arguments(schema, given), call_id=context.tool_call_id)
        said = [] if answer.said is None else [answer.said]
        return "\n".join([*said, *([str(answer.value)] if answer.is_known else [])])

    return FunctionTool(
        name=schema.name,
        description=schema.description or "",
        params_json_schema=schema.params_json_schema,
        on_invoke_tool=invoke,
        strict_json_schema=strict_json_schema,
    )


def _arguments(schema: FuncSchema, given: str) -> list[Any]:
    """Return what a model gave, as the activity takes it.

    Raises:
        ValueError: It is not what the schema says.
    """
    arguments, by_name = schema.to_call_args(
        schema.params_pydantic_model(**(json.loads(given) if given else {}))
    )
    return [*arguments, *by_name.values()]


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the parameters that a model gives: those of a method without `self`."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "self":
        return function

    def without_self(*args: Any, **kwargs: Any) -> Any:
        return function(None, *args, **kwargs)

    functools.update_wrapper(without_self, function)
    setattr(without_self, "__signature__", inspect.Signature(parameters[1:]))  # noqa: B010 - no type knows it
    return without_self
