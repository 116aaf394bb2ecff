"""Fingerprints: whether two calls have the same arguments, without keeping those.

Two encodings of equal values have one fingerprint: the order and spelling of JSON objects do not matter, nor
the order of a set's members, nor whether a number is written 1 or 1.0, nor whether a field without a value is
left out. Values that only the activity would take for equal, such as a default spelled out, are different.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload

_SET = "dedupe:set"
"""Stands for a set in what is encoded for a fingerprint only."""
_DEEPEST = 100
"""Levels of nesting that are searched for sets. JSON much deeper cannot be encoded."""


def fingerprint(arguments: Sequence[Payload]) -> str:
    """Return the SHA-256 over encoded arguments, in hex."""
    digest = hashlib.sha256()
    for payload in arguments:
        encoding = payload.metadata.get("encoding", b"")
        data = _canonical_json(payload.data) if encoding.startswith(b"json/") else payload.data
        for part in (encoding, data):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def with_sets_marked(value: Any) -> Any:
    """Return an argument as it is to be encoded for its fingerprint: sets have no order, but JSON has.

    The order of a set's members differs from process to process. What holds no set is returned as it is.
    """
    return _marked(value, _DEEPEST) if _holds_set(value, _DEEPEST) else value


def _holds_set(value: Any, levels: int) -> bool:
    if isinstance(value, set | frozenset):
        return True
    return levels > 0 and any(_holds_set(part, levels - 1) for part in _parts(value))


def _parts(value: Any) -> Sequence[Any]:
    fields = _fields(value)
    if fields is not None:
        return list(fields.values())
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return the fields of a mapping, a dataclass or a pydantic model; None where it is none of these."""
    if isinstance(value, Mapping):
        return value  # pyright: ignore[reportUnknownVariableType]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if hasattr(cast("object", value), "__pydantic_fields__"):  # a sandbox may have a BaseModel of its own
        return dict(cast("BaseModel", value))
    return None


def _marked(value: Any, levels: int) -> Any:
    if not _holds_set(value, levels):
        return value
    if isinstance(value, set | frozenset):
        return {_SET: [_marked(member, levels - 1) for member in cast("set[Any]", value)]}
    fields = _fields(value)
    if fields is not None:
        return {name: _marked(part, levels - 1) for name, part in fields.items()}
    return [_marked(part, levels - 1) for part in _parts(value)]


def _canonical_json(data: bytes) -> bytes:
    try:
        return _dumped(json.loads(data, object_pairs_hook=_canonical_object, parse_float=_canonical_number))
    except (ValueError, RecursionError):
        return data


def _canonical_object(members: Sequence[tuple[str, Any]]) -> Any:
    if [name for name, _ in members] == [_SET]:
        return {_SET: sorted(members[0][1], key=_dumped)}
    return {name: value for name, value in members if value is not None}


def _canonical_number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _dumped(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
