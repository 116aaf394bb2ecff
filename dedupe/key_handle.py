"""The key's workflow, as claims and `DedupeKeys` talk to it: start it, signal it, read it.

Each method is one round trip. Signals go to whichever run is open, and carry a request id, by which the
service drops the second of two equal ones.
"""

from dataclasses import dataclass
from enum import Enum, auto
from uuid import NAMESPACE_OID, uuid5

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from dedupe.decision import Record
from dedupe.ledger import read
from dedupe.messages import (
    ATTACH,
    FORGET,
    KEY_WORKFLOW,
    RERUN,
    Attach,
    Forget,
    Message,
    Rerun,
    Start,
    cut,
    encode,
)


class Signalled(Enum):
    """What became of a signal."""

    TAKEN = auto()
    GONE = auto()
    """No run is open."""
    REFUSED = auto()
    """The run takes no more signals: 10,000 is the service's cap."""


@dataclass(frozen=True, kw_only=True)
class KeyHandle:
    """One key in one namespace."""

    client: Client
    key_id: str

    async def read(self, *, with_fingerprint: bool = False) -> Record:
        """Return what is recorded under the key."""
        return await read(self.client, self.key_id, with_fingerprint=with_fingerprint)

    async def start(
        self,
        start: Start,
        arguments: Payload,
        *,
        task_queue: str,
        reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    ) -> bool:
        """Acquire the key: start its workflow.

        Returns:
            Whether this call started it. If not, somebody holds the key.

        Raises:
            RPCError: The service did not take the request.
        """
        try:
            await self.client.start_workflow(
                KEY_WORKFLOW,
                args=[encode(start), RawValue(arguments)],
                id=self.key_id,
                task_queue=task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                id_reuse_policy=reuse,
                request_eager_start=True,
                static_summary=cut(f"{start.activity} · {start.key}"),
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def attach(self, attach: Attach, *, turn: str) -> Signalled:
        """Ask the key's workflow to complete a claim. Of several asked in one `turn` the first counts."""
        waiter = attach.waiter
        request = f"{ATTACH}/{waiter.workflow_id}/{waiter.run_id}/{waiter.activity_id}/{turn}"
        return await self._signal(ATTACH, attach, request_id=str(uuid5(NAMESPACE_OID, request)))

    async def rerun(self, rerun: Rerun, arguments: Payload, *, attempt: int) -> Signalled:
        """Ask the key's workflow to execute what failed again. The first to ask provides the arguments.

        All that ask in their first attempt are one request. Should it come to nothing, the next asks anew.
        """
        request = f"{RERUN}/{self.key_id}/{rerun.idempotency_key}/{rerun.generation}/{attempt}"
        return await self._signal(RERUN, rerun, arguments, request_id=str(uuid5(NAMESPACE_OID, request)))

    async def task_queue(self) -> str:
        """Return the task queue on which the key lives.

        Raises:
            RPCError: The service knows no run of it.
        """
        return (await self.client.get_workflow_handle(self.key_id).describe()).task_queue

    async def forget(self, forget: Forget) -> Signalled:
        """Ask the key's workflow to drop the record."""
        return await self._signal(FORGET, forget)

    async def _signal(
        self, name: str, message: Message, *content: Payload, request_id: str = ""
    ) -> Signalled:
        converter = self.client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self.client.namespace, workflow_id=self.key_id)
        )
        payloads = await converter.encode([encode(message), *map(RawValue, content)])
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=self.key_id),
            signal_name=name,
            input=Payloads(payloads=payloads),
            identity=self.client.identity,
            request_id=request_id,
        )
        try:
            await self.client.workflow_service.signal_workflow_execution(request, retry=True)
        except RPCError as error:
            match error.status:
                case RPCStatusCode.NOT_FOUND:
                    return Signalled.GONE
                case RPCStatusCode.INVALID_ARGUMENT | RPCStatusCode.RESOURCE_EXHAUSTED:
                    return Signalled.REFUSED
                case _:
                    raise
        return Signalled.TAKEN
