"""Tools for agents of Pydantic AI that run on Temporal (`pydantic_ai.durable_exec.temporal`)."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic_ai import RunContext, Tool

from dedupe.agents.tool import KeyedTool, ToolKey


def keyed_tool(
    function: Callable[..., Any],
    *,
    deduplication_key: Callable[..., str] | ToolKey | None = None,
    **options: Any,
) -> Tool[Any]:
    """Return an activity as a tool that takes effect once per key, however often a model calls it.

    The tool is called in the workflow, and its activity is one of the worker's. A model that repeats a call
    reads that it had been done before, and its result; where nobody knows whether it was done, that it must
    not be repeated. What the activity raises ends the agent's run.

    Args:
        function: The activity; a method is given as `Class.method`.
        deduplication_key: Returns the key for the activity's arguments; or what it is made of. None: as the
            activity declares it by `@dedupe.keyed`, or else of the workflow's id and the arguments.
        **options: As `dedupe.execute_activity` takes them. Where unknown outcomes are held, a
            `schedule_to_close_timeout` has to be among them.

    Raises:
        ValueError: It is not an activity, or the time-out is missing.
    """
    tool = KeyedTool(function=function, key=deduplication_key, options=options)
    given = inspect.signature(function).parameters.values()
    signature = inspect.Signature([each for each in given if each.name != "self"])

    async def invoke(context: RunContext[Any], *args: Any, **by_name: Any) -> Any:
        bound = signature.bind(*args, **by_name)
        bound.apply_defaults()
        arguments = [*bound.args, *bound.kwargs.values()]
        answer = await tool.call(arguments, call_id=context.tool_call_id or "")
        if not answer.is_known:
            return answer.said
        return answer.value if answer.said is None else {"note": answer.said, "result": answer.value}

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY, annotation=RunContext[Any])
    shown = inspect.Signature([context, *signature.parameters.values()])
    setattr(invoke, "__signature__", shown)  # noqa: B010 - no type knows it
    hints = {
        name: hint
        for name, hint in inspect.get_annotations(function, eval_str=True).items()
        if name != "self"
    }
    invoke.__annotations__ = {"context": RunContext[Any], **hints, "return": Any}
    invoke.__doc__ = function.__doc__  # what a model reads of the tool, and of its arguments
    return Tool(
        invoke,
        takes_ctx=True,
        name=function.__name__,
        metadata={"temporal": False},  # it is no activity of its own: it starts one
    )
