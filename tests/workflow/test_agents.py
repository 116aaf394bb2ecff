"""Tools of agents, whatever the framework: what their keys are, and what a model reads."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy

import dedupe
from dedupe import UnknownOutcomeError
from dedupe.agents.tool import DONE_BEFORE, NOBODY_KNOWS, KeyedTool, ToolKey
from tests.support.ground import Ground

SENT: list[str] = []
OPTIONS = {"start_to_close_timeout": timedelta(seconds=30)}


@activity.defn
async def send(to: str, text: str) -> str:
    """Send something."""
    SENT.append(f"{to}: {text}")
    return f"message {len(SENT)}"


def reminder(to: str) -> str:
    """Return the key of a reminder."""
    return f"reminder-{to}"


def one_each(to: str, text: str) -> str:
    """Return a key that leaves the text out."""
    del text
    return f"one-each-{to}"


@dedupe.keyed(reminder)
@activity.defn
async def remind(to: str) -> str:
    """Remind somebody."""
    SENT.append(to)
    return f"reminder {len(SENT)}"


@activity.defn
async def lose(to: str) -> str:
    """Never hear of what was sent."""
    SENT.append(to)
    raise UnknownOutcomeError("no answer")


@activity.defn
async def fail(to: str) -> str:
    """Fail."""
    raise RuntimeError(to)


class Sender:
    """Activities that are methods."""

    @activity.defn
    async def send_page(self, to: str) -> str:
        """Page somebody."""
        SENT.append(to)
        return f"page for {to}"


TOOLS = {
    "arguments": KeyedTool(function=send, key=None, options=OPTIONS),
    "call": KeyedTool(function=send, key=ToolKey.CALL, options=OPTIONS),
    "function": KeyedTool(function=send, key=one_each, options=OPTIONS),
    "declared": KeyedTool(function=remind, key=None, options=OPTIONS),
    "method": KeyedTool(function=Sender.send_page, key=None, options=OPTIONS),
    "lost": KeyedTool(
        function=lose,
        key=None,
        options={**OPTIONS, "on_unknown": "hold", "schedule_to_close_timeout": timedelta(seconds=2)},
    ),
    "fails": KeyedTool(
        function=fail, key=None, options={**OPTIONS, "retry_policy": RetryPolicy(maximum_attempts=1)}
    ),
}


@workflow.defn
class Turns:
    """A conversation: tool calls, one after the other."""

    @workflow.run
    async def run(self, calls: Sequence[tuple[str, list[Any], str]]) -> list[tuple[Any, str | None]]:
        """Make the calls: a tool, its arguments, and the model's id of the call."""
        answers = [await TOOLS[tool].call(arguments, call_id=call_id) for tool, arguments, call_id in calls]
        return [(answer.value, answer.said) for answer in answers]


@pytest.fixture(autouse=True)
def _nothing_sent() -> None:
    SENT.clear()


async def turns(ground: Ground, *calls: tuple[str, list[Any], str]) -> list[Any]:
    """Have a conversation."""
    async with ground.worker(workflows=[Turns], activities=[send, remind, lose, fail, Sender().send_page]):
        answers: list[Any] = await ground.run(Turns.run, list(calls))
    return [list(answer) for answer in answers]


async def test_the_same_again_is_not_done_again(ground: Ground) -> None:
    """By its arguments, within one conversation; and the model reads it."""
    first, again, other = await turns(
        ground,
        ("arguments", ["ada", "hello"], "1"),
        ("arguments", ["ada", "hello"], "2"),
        ("arguments", ["ada", "bye"], "3"),
    )
    assert first == ["message 1", None]
    assert again == ["message 1", DONE_BEFORE]
    assert other == ["message 2", None]


async def test_another_conversation_says_it_again(real: Ground) -> None:
    """What was said in one is not known in the next."""
    for number in (1, 2):
        assert await turns(real, ("arguments", ["ada", "hello"], "1")) == [[f"message {number}", None]]


async def test_a_call_by_its_id(real: Ground) -> None:
    """A model that asks again gets it again."""
    answers = await turns(real, *(("call", ["ada", "hello"], call_id) for call_id in ("1", "1", "2")))
    assert answers == [["message 1", None], ["message 1", DONE_BEFORE], ["message 2", None]]


@pytest.mark.parametrize(("tool", "rest"), [("function", ["whatever"]), ("declared", [])])
async def test_a_key_that_is_said(real: Ground, tool: str, rest: list[str]) -> None:
    """Reaches across conversations."""
    [first] = await turns(real, (tool, ["ada", *rest], "1"))
    [again] = await turns(real, (tool, ["ada", *(f"{each} else" for each in rest)], "1"))
    assert (first[1], again[1]) == (None, DONE_BEFORE)
    assert first[0] == again[0]
    assert len(SENT) == 1


async def test_a_method_is_executed_by_the_workers_own(real: Ground) -> None:
    """It is given as `Class.method`."""
    assert await turns(real, ("method", ["ada"], "1")) == [["page for ada", None]]


async def test_what_nobody_knows_is_not_repeated(real: Ground) -> None:
    """However often the model asks: it reads that somebody has to find out."""
    answers = await turns(real, ("lost", ["ada"], "1"), ("lost", ["ada"], "2"))
    assert answers == [[None, NOBODY_KNOWS]] * 2
    assert SENT == ["ada"]


async def test_what_the_activity_raises_ends_the_conversation(real: Ground) -> None:
    """As with a plain tool."""
    with pytest.raises(WorkflowFailureError):
        await turns(real, ("fails", ["ada"], "1"))


def test_a_tool_that_would_wait_for_ever() -> None:
    """Is refused before a model asks for anything, and so is what is no activity."""
    with pytest.raises(ValueError, match="schedule_to_close_timeout"):
        KeyedTool(function=send, key=None, options={"on_unknown": "hold"})
    with pytest.raises(ValueError, match="not an activity"):
        KeyedTool(function=turns, key=None, options={})
