"""Who jobs write to."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from activities.email import Recipient
from activities.payments import Identifier

Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200)]
"""A person's name, fit for the subject of an e-mail."""


class User(BaseModel):
    """A person with an account."""

    model_config = ConfigDict(frozen=True)

    id: Identifier
    name: Name
    email: Recipient
