"""`send_email`: a message into an outbox on disk, through Resend, or through a mail server; `find_email`:
what became of one.

The outbox and Resend are idempotent: a key that is sent again sends nothing and gets the first receipt, and
with another message it is an error. The outbox knows a key for as long as its message is there; Resend for 24
hours, so retry for less than that: give the call a schedule-to-close timeout.

A mail server (SMTP) takes what it gets. All attempts send one Message-ID, by which many mailboxes show a
message once, and none promises to. So what cannot be sent twice holds what nobody knows. Where the server
files what its users send, `find_email` looks for the Message-ID in that folder; otherwise a person does:

    reconcile="find_email"
    on_unknown="hold"
"""

from typing import Annotated

from pydantic import Field

from activities.email.outbox import OutboxSettings, OutboxTransport
from activities.email.service import (
    Email,
    EmailActivities,
    EmailReceipt,
    EmailTransport,
    Recipient,
    Sender,
)
from activities.email.through_resend import ResendSettings, ResendTransport
from activities.email.through_smtp import SmtpSettings, SmtpTransport

__all__ = [
    "Email",
    "EmailActivities",
    "EmailReceipt",
    "EmailSettings",
    "EmailTransport",
    "OutboxSettings",
    "OutboxTransport",
    "Recipient",
    "ResendSettings",
    "ResendTransport",
    "Sender",
    "SmtpSettings",
    "SmtpTransport",
]

EmailSettings = Annotated[OutboxSettings | ResendSettings | SmtpSettings, Field(discriminator="transport")]
