"""Payload codecs: one that encrypts, and one that binds payloads to their workflow."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

NOBODY = "nobody"
_ENCODING = b"binary/encrypted"
_NONCE = 12


class EncryptionCodec(PayloadCodec):
    """Encrypts with AES-GCM, and still reads what was written before it was switched on."""

    def __init__(self, key: bytes) -> None:
        """Encrypt with a key of 16, 24 or 32 bytes."""
        self._cipher = AESGCM(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads encrypted."""
        return [self._encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads in clear.

        Raises:
            InvalidTag: One was encrypted with another key.
        """
        return [self._decrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE)
        data = nonce + self._cipher.encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": _ENCODING}, data=data)

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        data = self._cipher.decrypt(payload.data[:_NONCE], payload.data[_NONCE:], None)
        return Payload.FromString(data)


class Bound(PayloadCodec, WithSerializationContext):
    """Marks each payload with the workflow that it belongs to, and refuses to read those of another.

    As codecs do that have a data key for each workflow.
    """

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


def with_codec(codec: PayloadCodec) -> dict[str, Any]:
    """Return what a client needs to have a payload codec."""
    return {"data_converter": replace(pydantic_data_converter, payload_codec=codec)}
