"""Payloads: how messages travel.

They are encoded here and not by the user's payload converter, so any converter will do; they travel as
ordinary payloads, so a payload codec covers them (but for `Order`, which is a header).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from google.protobuf.message import DecodeError
from pydantic import Field, TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter, WithSerializationContext, WorkflowSerializationContext

from dedupe.model.messages import Message, Referral
from dedupe.model.names import MARK, WITHIN

MessageT = TypeVar("MessageT", bound=Message)

_REFERRALS: TypeAdapter[Referral] = TypeAdapter(Annotated[Referral, Field(discriminator="kind")])
_REFERRAL = b"referral"
_PACKED = b"packed"
_ANY = WorkflowSerializationContext(namespace="", workflow_id="")
_LONGEST_SUMMARY = 400
"""Bytes."""


def cut(summary: str) -> str:
    """Return as much of a summary as the service takes."""
    return summary.encode()[:_LONGEST_SUMMARY].decode(errors="ignore")


def said_in(error: Exception) -> str:
    """Return what is wrong with the fields of a message, in a line and without their values."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def encode(message: Message) -> RawValue:
    """Return the message as a value that every payload converter passes through."""
    data = message.model_dump_json(exclude_defaults=True).encode()
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data))


def decode(model: type[MessageT], payload: Payload) -> MessageT:
    """Return the message in a payload.

    Raises:
        ValueError: The payload holds no such message.
    """
    return model.model_validate_json(payload.data)


_WITHIN = TypeAdapter(frozenset[str])


def encode_within(within: frozenset[str]) -> Payload:
    """Return a header that `decode_within` reads."""
    return Payload(metadata={"encoding": b"json/plain"}, data=_WITHIN.dump_json(within))


def decode_within(headers: Mapping[str, Payload]) -> frozenset[str]:
    """Return the executions that a job was started within, as headers say."""
    header = headers.get(WITHIN)
    try:
        return frozenset() if header is None else _WITHIN.validate_json(header.data)
    except ValueError:  # somebody else's
        return frozenset()


def encode_referral(referral: Referral) -> Payload:
    """Return a payload that `decode_referral` reads."""
    data = referral.model_dump_json(exclude_none=True).encode()
    return Payload(metadata={"encoding": b"json/plain", MARK: _REFERRAL}, data=data)


def is_referral(payload: Payload) -> bool:
    """Return whether a payload says where a call is to go on."""
    return payload.metadata.get(MARK) == _REFERRAL


def decode_referral(payload: Payload) -> Referral | None:
    """Return the referral in a payload; None where it holds none.

    Raises:
        ValueError: It is of a kind that this version does not know.
    """
    if not is_referral(payload):
        return None
    return _REFERRALS.validate_json(payload.data)


def pack(payloads: Sequence[Payload]) -> RawValue:
    """Return several payloads as one value: a single one as it is, others wrapped."""
    if len(payloads) == 1 and payloads[0].metadata.get(MARK) != _PACKED:
        return RawValue(payloads[0])
    return _wrapped(payloads)


def carry(payloads: Sequence[Payload], converter: PayloadConverter) -> RawValue:
    """Return what `pack` does, as the result of an activity of ours.

    A payload converter that is bound to a context reads payloads of that context only, raw ones too. What is
    recorded has the key's context and not the job's, so there it is always wrapped.
    """
    return _wrapped(payloads) if is_bound(converter) else pack(payloads)


def is_bound(converter: PayloadConverter) -> bool:
    """Return whether a payload converter does anything with a serialization context."""
    return isinstance(converter, WithSerializationContext) and converter.with_context(_ANY) is not converter


def _wrapped(payloads: Sequence[Payload]) -> RawValue:
    data = Payloads(payloads=payloads).SerializeToString()
    return RawValue(Payload(metadata={"encoding": b"binary/plain", MARK: _PACKED}, data=data))


def unpack(packed: Payload) -> list[Payload]:
    """Return the payloads in what `pack` made: `unpack(pack(a)) == a`.

    Raises:
        ValueError: It did not make this.
    """
    if packed.metadata.get(MARK) != _PACKED:
        return [packed]
    try:
        return list(Payloads.FromString(packed.data).payloads)
    except DecodeError as error:
        message = "these are not packed payloads"
        raise ValueError(message) from error


def pack_with(message: Message, content: Payload) -> RawValue:
    """Return a message and what it is about as one value. Codecs may change the number of several."""
    return pack([encode(message).payload, content])


def unpack_with(model: type[MessageT], packed: Payload) -> tuple[MessageT, Payload]:
    """Return the message and what it is about: what `pack_with` was given; an empty payload for a bare
    message.

    Raises:
        ValueError: It did not make this.
    """
    message, *content = unpack(packed)
    return decode(model, message), content[0] if content else Payload()
