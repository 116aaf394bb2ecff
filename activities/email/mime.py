"""A message as it travels, by its standard (RFC 5322)."""

import hashlib
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default as modern
from email.utils import localtime
from uuid import uuid4

from activities.email.service import Email, Sender

# The standard's longest line, so that no word of a header is broken.
FORMAT = modern.clone(max_line_length=998)
FINGERPRINT = "X-Outbox-Fingerprint"
"""Header by which a key that is used for another message is found out."""


def compose(email: Email, *, sender: Address, name: str) -> EmailMessage:
    """Return a message as it travels, with a fingerprint of all that the sender chose."""
    message = EmailMessage(policy=FORMAT)
    message["From"] = sender
    message["To"] = Address(addr_spec=email.to)
    message["Subject"] = email.subject
    message["Date"] = localtime()
    message["Message-ID"] = message_id_of(name, sender)
    content = f"{sender}\n{email.model_dump_json(exclude={'sender'})}"
    message[FINGERPRINT] = hashlib.sha256(content.encode()).hexdigest()
    message.set_content(email.text)
    if email.html is not None:
        message.add_alternative(email.html, subtype="html")
    return message


def name_of(key: str | None) -> str:
    """Return what a message is called: the same for all attempts under a key."""
    return uuid4().hex if key is None else hashlib.sha256(key.encode()).hexdigest()


def message_id_of(name: str, sender: Address) -> str:
    """Return its Message-ID."""
    return f"<{name}@{sender.domain}>"


def sender_of(email: Email, default: Sender) -> Address:
    """Return whom a message is from."""
    name, _, address = (email.sender or default).rpartition(" ")
    return Address(display_name=name, addr_spec=address.strip("<>"))
