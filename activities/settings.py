"""What the settings of all transports share.

A service's settings are a union of sections, told apart by `transport`; the worker nests them in its own.
"""

from datetime import timedelta
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr


class Section(BaseModel):
    """A part of the worker's settings; a name it does not know is an error, not a typo that goes unseen."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a secret may be among it
    )


def _strip(key: SecretStr) -> SecretStr:
    # A key that was read from a file often ends in a newline, which no HTTP header may hold.
    stripped = key.get_secret_value().strip()
    if not (stripped.isascii() and stripped.isprintable() and stripped and " " not in stripped):
        raise ValueError("an API key is a word of ASCII characters")
    return SecretStr(stripped)


ApiKey = Annotated[SecretStr, AfterValidator(_strip)]
"""An API key, fit for an HTTP header."""

RequestTimeout = Annotated[timedelta, Ge(timedelta(seconds=1)), Le(timedelta(minutes=5))]
"""How long a connection, and then each silence of the provider, may last; the activity's is to be longer."""
