"""Other versions of the wire format: what a worker before or after this one puts into its messages."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast
from unittest.mock import patch

from dedupe import messages
from dedupe.messages import Forget, Message, Plan, Question, Rerun, Start, Waiter

_LATER: dict[type[Message], set[str]] = {
    Forget: {"life"},
    Plan: {"priority", "summary"},
    Question: {"fingerprint"},
    Rerun: {"caller"},
    Start: {"caller", "forgotten", "rollover"},
    Waiter: {"workflow_type", "task_queue"},
}
"""Fields that a version might not have had yet, and that calls of these tests do without."""


def other_version(version: str) -> Sequence[AbstractContextManager[object]]:
    """Return the patch that makes this process write messages as another version does.

    "newer": with fields that this version does not know. "older": without those that came later.
    """
    if version == "this":
        return []
    edit = _add if version == "newer" else _strip
    dump = Message.model_dump_json

    def model_dump_json(self: Message, **options: Any) -> str:
        return json.dumps(edit(self, json.loads(dump(self, **options))))

    return [patch.object(messages.Message, "model_dump_json", model_dump_json)]


def _add(message: Message, fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "from_the_future": {"of": type(message).__name__}}


def _strip(message: Message, fields: dict[str, Any]) -> dict[str, Any]:
    later = _LATER.get(type(message), set())
    return {
        name: _stripped(getattr(message, name), value) for name, value in fields.items() if name not in later
    }


def _stripped(field: object, value: Any) -> Any:
    if isinstance(field, Message):
        return _strip(field, value)
    if isinstance(field, tuple):
        return [_stripped(*pair) for pair in zip(cast("tuple[object, ...]", field), value, strict=True)]
    return value
