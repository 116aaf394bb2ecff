"""Other versions of the wire format: what a worker before or after this one puts into its messages."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dedupe import messages
from dedupe.messages import Message


def other_version(version: str) -> Sequence[AbstractContextManager[object]]:
    """Return the patch that makes this process write messages as another version does.

    "newer": with fields that this version does not know. "older": without those that have a default.
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
    defaults = {name: field.get_default() for name, field in type(message).model_fields.items()}
    return {
        name: value
        for name, value in fields.items()
        if type(message).model_fields[name].is_required() or getattr(message, name) != defaults[name]
    }
