"""All activities of the worker, each over the transport that the settings choose."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError
from sqlalchemy.exc import SQLAlchemyError

from activities.database import DatabaseActivities
from activities.email import EmailActivities
from activities.github import GitHubActivities
from activities.objects import ObjectActivities
from activities.payments import PaymentActivities
from activities.responses import ResponseActivities
from activities.settings import Section
from activities.slack import SlackActivities
from activities.sms import SmsActivities
from activities.webhook import WebhookActivities
from activities.worker_settings import PREFIX, Settings, StartupError, one_line


def create_activities(settings: Settings) -> list[Callable[..., Any]]:
    """Return what a worker registers.

    Raises:
        StartupError: A transport cannot be made.
    """
    with _named("email", settings.email):
        email = EmailActivities(settings.email.open())
    with _named("payments", settings.payments):
        payments = PaymentActivities(settings.payments.open())
    with _named("webhooks", settings.webhooks):
        webhooks = WebhookActivities(settings.webhooks.open())
    with _named("slack", settings.slack):
        slack = SlackActivities(settings.slack.open())
    with _named("github", settings.github):
        github = GitHubActivities(settings.github.open())
    with _named("sms", settings.sms):
        sms = SmsActivities(settings.sms.open())
    with _named("objects", settings.objects):
        objects = ObjectActivities(settings.objects.open())
    with _named("responses", settings.responses):
        responses = ResponseActivities(settings.responses.open())
    with _named("database_url", settings.database_url):
        database = DatabaseActivities(settings.database_url)
    return [
        email.send_email,
        email.find_email,
        payments.charge,
        payments.find_charge,
        payments.refund,
        webhooks.send_webhook,
        slack.post_message,
        slack.find_message,
        github.create_issue,
        github.find_issue,
        github.add_comment,
        github.find_comment,
        sms.send_sms,
        sms.find_sms,
        objects.put_object,
        responses.create_response,
        database.execute_statement,
    ]


@contextmanager
def _named(name: str, chosen: object) -> Generator[None]:
    """Say of what goes wrong in the block which settings it is about."""
    try:
        yield
    except (OSError, sqlite3.Error, SQLAlchemyError, BotoCoreError) as error:
        fields = type(chosen).model_fields if isinstance(chosen, Section) else {}
        variables = [f"{PREFIX}{name}__{field}".upper() for field in fields if field != "transport"]
        raise StartupError(
            f"{name} cannot be used: {one_line(error)}. "
            f"Correct {' or '.join(variables) or f'{PREFIX}{name}'.upper()}; see python worker.py --help"
        ) from error
