"""Marks: results and failures as payloads that say what they are.

A success is the activity's own result, byte for byte, with a mark in its metadata; so it is decoded to the
activity's return type as the result of a plain call is. A failure is its protobuf message as JSON, with what
goes with it.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.model.messages import FailureMessage
from dedupe.model.names import MARK
from dedupe.model.payloads import decode, encode

SUCCEEDED = b"succeeded"
FAILED = b"failed"
FAILED_AT_LENGTH = b"failed at length"
ABANDONED = b"abandoned"
UNRECORDED = b"unrecorded"
FAILED_RESULT = b"failed result"
AT = "dedupe-at"
CALL = "dedupe-call"
EXECUTOR = "dedupe-executor"
_FACTS = "dedupe-facts"
"""Key in the metadata of a long failure: all of its message but the failure."""
LARGE = 1_500_000
"""Bytes of an answer beyond which each counts, as the service takes 2 MB: it goes without its executor, and a
failure as it is, which is shorter than its JSON."""


def marked(result: Payload, mark: bytes) -> Payload:
    """Return a payload with a mark."""
    payload = Payload()
    payload.CopyFrom(result)
    payload.metadata[MARK] = mark
    return payload


def unrecorded(result: Payload) -> Payload:
    """Return a result that the job has to record, since its activity could not."""
    return marked(result, UNRECORDED)


def is_recorded(payload: Payload) -> bool:
    """Return whether a twin returned what is recorded. A result that was completed elsewhere is unmarked."""
    return payload.metadata.get(MARK, UNRECORDED) != UNRECORDED


def unmarked(payload: Payload) -> Payload:
    """Return a payload without its mark."""
    plain = Payload()
    plain.CopyFrom(payload)
    for name in (MARK, AT, CALL, EXECUTOR):
        plain.metadata.pop(name, None)
    return plain


def encode_failure(failure: Failure, facts: FailureMessage) -> Payload:
    """Return the payload that carries a failure, and what goes with it."""
    as_json: Mapping[str, Any] = MessageToDict(failure)
    payload = encode(facts.model_copy(update={"failure": as_json})).payload
    payload.metadata[MARK] = FAILED
    if payload.ByteSize() <= LARGE:
        return payload
    return Payload(
        metadata={
            "encoding": b"binary/plain",
            MARK: FAILED_AT_LENGTH,
            _FACTS: facts.model_copy(update={"executor": None}).model_dump_json().encode(),
        },
        data=failure.SerializeToString(),
    )


def decode_marked(payload: Payload) -> Payload | tuple[Failure, FailureMessage] | None:
    """Return the result or the failure that a payload carries; None where it is marked as neither.

    Raises:
        ValueError: It is marked as a failure, and is none.
    """
    mark = payload.metadata.get(MARK)
    if mark == SUCCEEDED:
        return unmarked(payload)
    if mark == FAILED:
        message = decode(FailureMessage, payload)
        return ParseDict(dict(message.failure), Failure(), ignore_unknown_fields=True), message
    if mark == FAILED_AT_LENGTH:
        message = decode(FailureMessage, Payload(data=payload.metadata[_FACTS]))
        try:
            return Failure.FromString(payload.data), message
        except DecodeError as error:
            reason = "this is not a failure"
            raise ValueError(reason) from error
    return None
