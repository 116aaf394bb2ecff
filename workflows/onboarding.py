"""`OnboardingJob`: a new user gets a welcome e-mail, once.

Sign-ups come from a webhook that delivers at least once, and each delivery starts a job. The key is the user,
so all those jobs send one message, at the same time or years apart.

- Scope: the project. Any job of this project that welcomes the user shares the key; another product of the
  organization may greet the same person in its own words.
- Failure: it fails the job. The message is all the job does, so nothing is left to go on with; and the next
  delivery, or an operator who starts the job again, tries again.
"""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import workflow

from dedupe import execute_activity

with workflow.unsafe.imports_passed_through():
    from activities.email import Email, EmailActivities
    from activities.errors import RETRY_POLICY
    from workflows.user import User


class Onboarded(BaseModel):
    """What came of the job."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    message_id: str
    """The welcome e-mail's: the same for all jobs of one user."""


# An input that cannot be read fails the job; by default it would fail workflow tasks, for ever.
@workflow.defn(failure_exception_types=[ValidationError])
class OnboardingJob:
    """Welcomes a new user."""

    @workflow.run
    async def run(self, user: User) -> Onboarded:
        """Send the welcome e-mail, unless it was sent before."""
        receipt = await execute_activity(
            EmailActivities.send_email,
            Email(
                to=user.email,
                subject=f"Welcome, {user.name}",
                text=f"Hello {user.name},\n\nyour account is ready. Answer this message if you need help.\n",
            ),
            deduplication_key=welcome_key(user),
            start_to_close_timeout=timedelta(seconds=30),
            # Less than the 24 hours for which a provider remembers the idempotency key.
            schedule_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        return Onboarded(user_id=user.id, message_id=receipt.message_id)


def welcome_key(user: User) -> str:
    """Return the key that all welcome e-mails to one user share."""
    return f"welcome-email-{user.id}"
