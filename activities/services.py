"""All activities of the worker, each over the transport that the settings choose."""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError
from sqlalchemy.exc import SQLAlchemyError

from activities.database import DatabaseActivities
from activities.email import EmailActivities, email_transport
from activities.github import GitHubActivities, github_transport
from activities.objects import ObjectActivities, object_transport
from activities.payments import PaymentActivities, payment_transport
from activities.responses import ResponseActivities, response_transport
from activities.settings import Section
from activities.slack import SlackActivities, slack_transport
from activities.sms import SmsActivities, sms_transport
from activities.webhook import WebhookActivities, webhook_transport
from activities.worker_settings import PREFIX, Settings, StartupError, one_line

Chosen = TypeVar("Chosen")
Made = TypeVar("Made")


def create_activities(settings: Settings) -> list[Callable[..., Any]]:
    """Return what a worker registers.

    Raises:
        StartupError: A transport cannot be made.
    """
    email = EmailActivities(_made("email", settings.email, email_transport))
    payments = PaymentActivities(_made("payments", settings.payments, payment_transport))
    webhooks = WebhookActivities(_made("webhooks", settings.webhooks, webhook_transport))
    slack = SlackActivities(_made("slack", settings.slack, slack_transport))
    github = GitHubActivities(_made("github", settings.github, github_transport))
    sms = SmsActivities(_made("sms", settings.sms, sms_transport))
    objects = ObjectActivities(_made("objects", settings.objects, object_transport))
    responses = ResponseActivities(_made("responses", settings.responses, response_transport))
    database = _made("database_url", settings.database_url, DatabaseActivities)
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


def _made(name: str, chosen: Chosen, make: Callable[[Chosen], Made]) -> Made:
    try:
        return make(chosen)
    except (OSError, sqlite3.Error, SQLAlchemyError, BotoCoreError) as error:
        fields = type(chosen).model_fields if isinstance(chosen, Section) else {}
        variables = [f"{PREFIX}{name}__{field}".upper() for field in fields if field != "transport"]
        raise StartupError(
            f"{name} cannot be used: {one_line(error)}. "
            f"Correct {' or '.join(variables) or f'{PREFIX}{name}'.upper()}; see python worker.py --help"
        ) from error
