"""`DigestJob`: a user gets one digest a week, however often the week's run is started.

- Scope: the job. Only digests answer for digests; jobs of other types may use the same key as they like.
- Failure: it fails the job. The next start of the week's run tries again, for those without a digest.
- TTL: eight days. The key names the week, so nobody asks for it once its week and a day of delay are over,
  and the record may go; kept for ever, there would be one more for each user, each week. The week is in the
  input and not read off the clock: a run that is late is still the run of its own week.
"""

from datetime import date, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from temporalio import workflow

from dedupe import Scope, execute_activity

with workflow.unsafe.imports_passed_through():
    from activities.email import Email, EmailActivities
    from activities.errors import RETRY_POLICY
    from workflows.user import User

KEPT_FOR = timedelta(days=8)
"""How long it is known who had which digest."""


class Digest(BaseModel):
    """What a user is told of a week."""

    model_config = ConfigDict(frozen=True)

    user: User
    day: date
    """Any day of the week; weeks are those of ISO 8601."""
    headlines: Annotated[tuple[str, ...], Field(min_length=1)]

    @property
    def week(self) -> str:
        """The week as ISO 8601 writes it: `2026-W01` holds 29 December 2025."""
        year, week, _ = self.day.isocalendar()
        return f"{year}-W{week:02}"


class Digested(BaseModel):
    """What came of the job."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    week: str
    message_id: str


# An input that cannot be read fails the job; by default it would fail workflow tasks, for ever.
@workflow.defn(failure_exception_types=[ValidationError])
class DigestJob:
    """Sends a user the digest of a week."""

    @workflow.run
    async def run(self, digest: Digest) -> Digested:
        """Send the digest, unless the user has had that week's."""
        user = digest.user
        receipt = await execute_activity(
            EmailActivities.send_email,
            Email(
                to=user.email,
                subject=f"Your week {digest.week}",
                text="".join(f"- {headline}\n" for headline in digest.headlines),
            ),
            deduplication_key=f"digest-{user.id}-{digest.week}",
            deduplication_scope=Scope.JOB,
            deduplication_ttl=KEPT_FOR,
            start_to_close_timeout=timedelta(seconds=30),
            # Less than the 24 hours for which a provider remembers the idempotency key.
            schedule_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RETRY_POLICY,
        )
        return Digested(user_id=user.id, week=digest.week, message_id=receipt.message_id)
