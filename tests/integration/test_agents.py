"""The agents of `examples/`: each asks twice for a message, is killed in the middle, and sends it once."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest

from tests.integration.processes import ROOT


@pytest.mark.parametrize(
    "module", ["examples.pydantic_agent", pytest.param("examples.openai_agent", marks=pytest.mark.torture)]
)
async def test_an_agent_sends_one_message(module: str) -> None:
    """As its user runs it, without a network."""
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(90):
        out, _ = await agent.communicate()
    lines = out.decode().splitlines()
    assert agent.returncode == 0, out.decode()
    assert "The message is out, and the worker was killed before it could say so." in lines
    [said] = [line for line in lines if line.startswith("The agent: I read: ")]
    assert said.count("sent as ") == 2
    assert said.count("was not done again") == 1
    assert lines[-1] == "Messages in the outbox: 1"
