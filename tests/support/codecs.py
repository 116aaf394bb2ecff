"""A payload codec that binds payloads to their workflow, as those with a data key for each workflow do."""

from collections.abc import Sequence
from typing import Self

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

NOBODY = "nobody"


class Bound(PayloadCodec, WithSerializationContext):
    """Writes beside each payload whose it is, and takes no other where it knows whose it has to be."""

    def __init__(self, owner: str = NOBODY) -> None:
        self.owner = owner

    def with_context(self, context: SerializationContext) -> Self:
        """See base class."""
        if isinstance(context, ActivitySerializationContext | WorkflowSerializationContext):
            return type(self)(str(context.workflow_id))
        return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class."""
        data = [payload.SerializeToString() for payload in payloads]
        return [Payload(metadata={"owner": self.owner.encode()}, data=each) for each in data]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class."""
        for payload in payloads:
            if self.owner != NOBODY and payload.metadata["owner"] != self.owner.encode():
                message = f"{payload.metadata['owner']!r} is not {self.owner!r}"
                raise ValueError(message)
        return [Payload.FromString(payload.data) for payload in payloads]
