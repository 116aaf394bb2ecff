"""What type checkers make of `execute_activity` and `start_activity`. Checked, and never run."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

import dedupe
from dedupe import CallHandle, DedupeClient, FailedResult, Scope, execute_activity, start_activity

SECOND = timedelta(seconds=1)


@dataclass
class Message:
    to: str


@dataclass
class Receipt:
    number: int


@activity.defn
async def send(message: Message) -> Receipt:
    return Receipt(len(message.to))


@activity.defn
def send_in_a_thread(message: Message) -> Receipt:
    return Receipt(len(message.to))


@activity.defn
async def ping() -> int:
    return 1


@activity.defn
def ping_in_a_thread() -> int:
    return 1


@activity.defn
async def forget(message: Message) -> None:
    del message


@activity.defn
async def add(one: int, two: int) -> int:
    return one + two


@activity.defn
def add_in_a_thread(one: int, two: int) -> int:
    return one + two


class Mail:
    @activity.defn
    async def send(self, message: Message) -> Receipt:
        return Receipt(len(message.to))

    @activity.defn
    def send_in_a_thread(self, message: Message) -> Receipt:
        return Receipt(len(message.to))


async def one_argument(message: Message) -> None:
    result = await execute_activity(send, message, deduplication_key="k", start_to_close_timeout=SECOND)
    assert_type(result, Receipt)
    threaded = await execute_activity(
        send_in_a_thread, message, deduplication_key="k", start_to_close_timeout=SECOND
    )
    assert_type(threaded, Receipt)
    nothing = execute_activity(forget, message, deduplication_key="k", start_to_close_timeout=SECOND)
    assert_type(await nothing, None)


async def no_argument() -> None:
    assert_type(await execute_activity(ping, deduplication_key="k", start_to_close_timeout=SECOND), int)
    assert_type(
        await execute_activity(ping_in_a_thread, deduplication_key="k", start_to_close_timeout=SECOND), int
    )


async def many_arguments() -> None:
    assert_type(
        await execute_activity(add, args=[1, 2], deduplication_key="k", start_to_close_timeout=SECOND), int
    )
    assert_type(
        await execute_activity(
            add_in_a_thread, args=[1, 2], deduplication_key="k", start_to_close_timeout=SECOND
        ),
        int,
    )


async def methods(message: Message) -> None:
    assert_type(
        await execute_activity(Mail.send, message, deduplication_key="k", start_to_close_timeout=SECOND),
        Receipt,
    )
    assert_type(
        await execute_activity(
            Mail.send_in_a_thread, message, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        Receipt,
    )


async def by_name(message: Message) -> None:
    assert_type(
        await execute_activity(
            "send", message, result_type=Receipt, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        Any,
    )


async def skipping(message: Message, *, perhaps: bool) -> None:
    skipped = await execute_activity(
        send, message, skip_failure=True, deduplication_key="k", start_to_close_timeout=SECOND
    )
    assert_type(skipped, Receipt | FailedResult)
    if isinstance(skipped, FailedResult):
        raise skipped.error
    assert_type(skipped, Receipt)
    assert_type(
        await execute_activity(
            send, message, skip_failure=perhaps, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        Receipt | FailedResult,
    )
    assert_type(
        await execute_activity(
            send, message, skip_failure=False, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        Receipt,
    )
    assert_type(
        await execute_activity(ping, skip_failure=True, deduplication_key="k", start_to_close_timeout=SECOND),
        int | FailedResult,
    )
    assert_type(
        await execute_activity(
            add, args=[1, 2], skip_failure=True, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        int | FailedResult,
    )
    assert_type(
        await execute_activity(
            Mail.send, message, skip_failure=True, deduplication_key="k", start_to_close_timeout=SECOND
        ),
        Receipt | FailedResult,
    )


async def handles(message: Message) -> None:
    handle = start_activity(send, message, deduplication_key="k", start_to_close_timeout=SECOND)
    assert_type(handle, workflow.ActivityHandle[Receipt])
    assert_type(await handle, Receipt)
    skipping_handle = start_activity(
        Mail.send, message, skip_failure=True, deduplication_key="k", start_to_close_timeout=SECOND
    )
    assert_type(skipping_handle, workflow.ActivityHandle[Receipt | FailedResult])
    assert_type(
        start_activity(ping, deduplication_key="k", start_to_close_timeout=SECOND),
        workflow.ActivityHandle[int],
    )
    assert_type(
        start_activity(add, args=[1, 2], deduplication_key="k", start_to_close_timeout=SECOND),
        workflow.ActivityHandle[int],
    )
    assert_type(
        start_activity("send", message, deduplication_key="k", start_to_close_timeout=SECOND),
        workflow.ActivityHandle[Any],
    )


async def every_option(message: Message) -> None:
    assert_type(
        await execute_activity(
            send,
            message,
            deduplication_key="k",
            deduplication_scope=Scope.ORGANIZATION,
            deduplication_ttl=SECOND,
            on_mismatch="raise",
            skip_failure=False,
            task_queue="jobs",
            schedule_to_close_timeout=SECOND,
            schedule_to_start_timeout=SECOND,
            start_to_close_timeout=SECOND,
            heartbeat_timeout=SECOND,
            retry_policy=RetryPolicy(),
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            activity_id="1",
            summary="summary",
        ),
        Receipt,
    )


def key_of(message: Message) -> str:
    return message.to


@dedupe.keyed(key_of)
@activity.defn
async def send_once(message: Message) -> Receipt:
    return Receipt(len(message.to))


async def declared(message: Message) -> None:
    assert_type(await execute_activity(send_once, message, start_to_close_timeout=SECOND), Receipt)
    assert_type(await workflow.execute_activity(send_once, message), Receipt)


async def from_outside(client: DedupeClient, message: Message) -> None:
    result = await client.execute_activity(send, message, deduplication_key="k")
    assert_type(result, Receipt)
    either = await client.execute_activity(send, message, skip_failure=True, deduplication_key="k")
    assert_type(either, Receipt | FailedResult)
    threaded = await client.execute_activity(add_in_a_thread, args=[1, 2], deduplication_key="k")
    assert_type(threaded, int)
    handle = await client.start_activity(Mail.send, message, deduplication_key="k")
    assert_type(handle, CallHandle[Receipt])
    assert_type(await handle.result(), Receipt)
