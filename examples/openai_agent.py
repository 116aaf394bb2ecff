"""An agent of the OpenAI Agents SDK that asks twice for the same message, and sends it once.

    python -m examples.openai_agent

The model is scripted: it calls its tool, calls it again as models do, and then says what it read.
"""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from agents import Agent, Model, ModelResponse, Runner
from temporalio import workflow
from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
from temporalio.openai_agents.testing import ResponseBuilders, TestModelProvider

from dedupe.agents.openai import keyed_activity_as_tool

with workflow.unsafe.imports_passed_through():
    from examples.agent_tool import ARGUMENTS, OPTIONS, Outbox


@workflow.defn
class OpenAIAgentJob:
    """A conversation."""

    @workflow.run
    async def run(self, question: str) -> str:
        """Have the agent answer."""
        agent = Agent(
            name="Shop",
            instructions="You write to customers.",
            tools=[keyed_activity_as_tool(Outbox.send_message, **OPTIONS)],
        )
        result = await Runner.run(agent, question)
        return str(result.final_output)


class ScriptedModel(Model):
    """Calls the tool twice with the same arguments. What it does follows from what was said so far."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Return the next line of the script."""
        outputs = _outputs(kwargs["input"] if "input" in kwargs else args[1])
        if len(outputs) < 2:  # noqa: PLR2004 - it asks twice
            return ResponseBuilders.tool_call(
                json.dumps(ARGUMENTS), "send_message", call_id=f"call-{len(outputs)}"
            )
        return ResponseBuilders.output_message(f"I read: {outputs}")

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """See base class."""
        raise NotImplementedError


def _outputs(said: str | list[dict[str, Any]]) -> list[str]:
    if isinstance(said, str):
        return []
    return [str(item["output"]) for item in said if item.get("type") == "function_call_output"]


if __name__ == "__main__":
    from examples.killed_agent import main

    main(
        "examples.openai_agent",
        OpenAIAgentJob,
        OpenAIAgentsPlugin(
            model_params=ModelActivityParameters(start_to_close_timeout=timedelta(seconds=10)),
            model_provider=TestModelProvider(ScriptedModel()),
        ),
    )
