"""Activities of every kind, results of every type, and the jobs that call them."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

import dedupe

OPTIONS: dict[str, Any] = {"start_to_close_timeout": timedelta(seconds=20)}


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int


class Receipt(BaseModel):
    """A pydantic model."""

    number: int
    lines: list[Point]


@activity.defn
async def give_none() -> None:
    """Return nothing."""


@activity.defn
async def give_false() -> bool:
    """Return False."""
    return False


@activity.defn
async def give_zero() -> int:
    """Return 0."""
    return 0


@activity.defn
async def give_empty_text() -> str:
    """Return an empty string."""
    return ""


@activity.defn
async def give_empty_list() -> list[int]:
    """Return an empty list."""
    return []


@activity.defn
async def give_empty_bytes() -> bytes:
    """Return no bytes."""
    return b""


@activity.defn
async def give_bytes() -> bytes:
    """Return bytes that are no text."""
    return b"\x00\xff~"


@activity.defn
async def give_point() -> Point:
    """Return a dataclass."""
    return Point(1, 2)


@activity.defn
async def give_points() -> list[Point]:
    """Return dataclasses."""
    return [Point(1, 2), Point(3, 4)]


@activity.defn
async def give_optional() -> Point | None:
    """Return nothing, where there might be something."""
    return None


@activity.defn
async def give_receipt() -> Receipt:
    """Return a pydantic model."""
    return Receipt(number=7, lines=[Point(1, 2)])


@activity.defn
async def give_receipts() -> list[Receipt]:
    """Return pydantic models."""
    return [Receipt(number=7, lines=[]), Receipt(number=8, lines=[Point(3, 4)])]


PLAIN: dict[Callable[..., Any], Any] = {
    give_none: None,
    give_false: False,
    give_zero: 0,
    give_empty_text: "",
    give_empty_list: [],
    give_empty_bytes: b"",
    give_bytes: b"\x00\xff~",
    give_point: Point(1, 2),
    give_points: [Point(1, 2), Point(3, 4)],
    give_optional: None,
}
PYDANTIC: dict[Callable[..., Any], Any] = {
    give_receipt: Receipt(number=7, lines=[Point(1, 2)]),
    give_receipts: [Receipt(number=7, lines=[]), Receipt(number=8, lines=[Point(3, 4)])],
}
GIVING: dict[str, Callable[..., Any]] = {give.__name__: give for give in (*PLAIN, *PYDANTIC)}


@workflow.defn
class Results:
    """Calls activities by function, and says what their results look like."""

    @workflow.run
    async def run(self, names: list[str]) -> list[str]:
        """See the class."""
        values: list[Any] = await asyncio.gather(
            *(
                dedupe.execute_activity(GIVING[name], args=[], deduplication_key=name, **OPTIONS)
                for name in names
            )
        )
        return [repr(value) for value in values]


@activity.defn
async def nothing_to_say() -> str:
    """Take no argument."""
    return "nothing"


@activity.defn
def in_a_thread(point: Point) -> Point:
    """Run in a thread."""
    assert threading.current_thread() is not threading.main_thread()
    return Point(point.y, point.x)


@activity.defn(name="named-otherwise")
async def renamed(first: int, second: str, third: list[int] | None = None) -> str:
    """Take several arguments, one of them optional."""
    return f"{first} {second} {third}"


@activity.defn
async def many(first: int, second: int, third: int, fourth: int, fifth: int) -> int:
    """Take many arguments."""
    return first + second + third + fourth + fifth


class Service:
    """Activities with something to work with."""

    def __init__(self, greeting: str) -> None:
        """See the class."""
        self.greeting = greeting

    @activity.defn
    async def greet(self, name: str) -> str:
        """Be a method."""
        return f"{self.greeting} {name}"

    @activity.defn
    def greet_in_a_thread(self, name: str) -> str:
        """Be a method that runs in a thread."""
        return f"{self.greeting}, {name}"


@workflow.defn
class Kinds:
    """Calls activities of every kind."""

    @workflow.run
    async def run(self) -> list[str]:
        """See the class."""
        number = 0

        def options() -> dict[str, Any]:
            nonlocal number
            number += 1
            return {"deduplication_key": f"key-{number}", **OPTIONS}

        values: list[Any] = [
            await dedupe.execute_activity(nothing_to_say, **options()),
            await dedupe.execute_activity(in_a_thread, Point(1, 2), **options()),
            await dedupe.execute_activity(renamed, args=[1, "two"], **options()),
            await dedupe.execute_activity(renamed, args=[1, "two", [3]], **options()),
            await dedupe.execute_activity(many, args=[1, 2, 3, 4, 5], **options()),
            await dedupe.execute_activity(Service.greet, "Ada", **options()),
            await dedupe.execute_activity(Service.greet_in_a_thread, "Ada", **options()),
            await dedupe.execute_activity("in_a_thread", Point(1, 2), result_type=Point, **options()),
            await dedupe.execute_activity("named-otherwise", args=[1, "two"], **options()),
            await dedupe.execute_activity("nothing_to_say", **options()),
            await dedupe.start_activity(in_a_thread, Point(5, 6), **options()),
        ]
        return [repr(value) for value in values]


KINDS: list[Callable[..., Any]] = [nothing_to_say, in_a_thread, renamed, many]
"""The functions among them."""
KINDS_RESULTS = [
    "'nothing'",
    "Point(x=2, y=1)",
    "'1 two None'",
    "'1 two [3]'",
    "15",
    "'Hello Ada'",
    "'Hello, Ada'",
    "Point(x=2, y=1)",
    "'1 two None'",
    "'nothing'",
    "Point(x=6, y=5)",
]


@activity.defn
async def give_large(size: int) -> bytes:
    """Return so many bytes."""
    return b"x" * size


@workflow.defn
class Large:
    """Gets a large result, and says how large it is."""

    @workflow.run
    async def run(self, size: int) -> int:
        """See the class."""
        result: bytes = await dedupe.execute_activity(
            give_large,
            size,
            deduplication_key="large",
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        return len(result)


@workflow.defn
class Mistyped:
    """Expects a result that the activity does not return."""

    @workflow.run
    async def run(self) -> str:
        """See the class."""
        await dedupe.execute_activity(give_zero, deduplication_key="key", **OPTIONS)
        value: Any = await dedupe.execute_activity(
            "give_zero", result_type=Point, deduplication_key="key", **OPTIONS
        )
        return repr(value)
