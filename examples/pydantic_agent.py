"""An agent of Pydantic AI that asks twice for the same message, and sends it once.

    python -m examples.pydantic_agent

The model is scripted: it calls its tool, calls it again as models do, and then says what it read.
"""

from collections.abc import Sequence
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.durable_exec.temporal import PydanticAIPlugin, PydanticAIWorkflow, TemporalDurability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from temporalio import workflow

from dedupe.agents.pydantic_ai import keyed_tool

with workflow.unsafe.imports_passed_through():
    from examples.agent_tool import ARGUMENTS, OPTIONS, Outbox


def _scripted(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Call the tool twice with the same arguments. What is done follows from what was said so far."""
    outputs = [
        part.model_response_str()
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    if len(outputs) < 2:  # noqa: PLR2004 - it asks twice
        return ModelResponse(parts=[ToolCallPart("send_message", ARGUMENTS)])
    return ModelResponse(parts=[TextPart(f"I read: {outputs}")])


AGENT = Agent(
    FunctionModel(_scripted),
    name="shop",
    instructions="You write to customers.",
    tools=[keyed_tool(Outbox.send_message, **OPTIONS)],
    capabilities=[TemporalDurability()],
)


@workflow.defn
class PydanticAgentJob(PydanticAIWorkflow):
    """A conversation."""

    __pydantic_ai_agents__: Sequence[AbstractAgent[Any, Any]] = (AGENT,)

    @workflow.run
    async def run(self, question: str) -> str:
        """Have the agent answer."""
        result = await AGENT.run(question)
        return result.output


if __name__ == "__main__":
    from examples.killed_agent import main

    main("examples.pydantic_agent", PydanticAgentJob, PydanticAIPlugin())
