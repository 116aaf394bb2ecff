"""Mistakes that a type checker finds: each line marked `expect: CODE` has that error of mypy."""
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false, reportAssignmentType=false

from datetime import timedelta

from dedupe import FailedResult, start_activity
from dedupe import execute_activity as run
from tests.typing.calls import Mail, Message, add, ping, send

SECOND = timedelta(seconds=1)


async def mistakes(message: Message) -> None:
    await run(send, 7, deduplication_key="k")  # expect: arg-type
    await run(send, message, deduplication_key=7)  # expect: call-overload
    await run(send, message, deduplication_key="k", deduplication_ttl=60)  # expect: call-overload
    await run(send, message, deduplication_key="k", on_mismatch="ignore")  # expect: call-overload
    await run(send, message, deduplication_key="k", deduplicaton_ttl=None)  # expect: call-overload
    await run(Mail.send, "ada", deduplication_key="k")  # expect: arg-type
    await run(add, 1, 2, deduplication_key="k")  # expect: call-overload
    receipt = await run(send, message, skip_failure=True, deduplication_key="k")
    _ = receipt.number  # expect: union-attr
    text: str = await run(ping, deduplication_key="k")  # expect: arg-type
    failed: FailedResult = await run(ping, deduplication_key="k")  # expect: arg-type
    _ = start_activity(ping, deduplication_key="k").number  # expect: attr-defined
    del text, failed
