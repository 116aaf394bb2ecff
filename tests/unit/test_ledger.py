"""The ledger, over pages that are hard to come by."""

from typing import Any, cast

from temporalio.api.workflow.v1 import PendingActivityInfo

from dedupe.decision import Executing
from dedupe.ledger import Ledger
from dedupe.messages import KEY_WORKFLOW
from dedupe.pages import Pages


async def test_a_key_that_executes_has_not_expired() -> None:
    """Where a failed key was asked for again as its time ran out, the service's word that it executes counts,
    though the page with the schedule event was not read.
    """
    pages = Pages(
        workflow_type=KEY_WORKFLOW, has_expired=True, pending=PendingActivityInfo(activity_id="2:run-2")
    )
    nobody = cast("Any", None)
    record = await Ledger(client=nobody, key_id="proj:acme/web:key", pages=pages).record()
    assert isinstance(record, Executing)
    assert record.execution.turn == "run-2/2"
