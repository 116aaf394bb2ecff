"""A payload codec that encrypts with AES-GCM, as applications with secrets in their payloads have one."""

import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

_ENCODING = b"binary/encrypted"
_NONCE = 12


class EncryptionCodec(PayloadCodec):
    """Encrypts everything, and still reads what was written before it was switched on."""

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
