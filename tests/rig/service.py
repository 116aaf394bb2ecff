"""A Temporal service in memory: runs of one key's workflow, and jobs whose activities execute it.

It does what a service does at once and completely. When it does it, whether the answer arrives, and who lives
to see it, is decided from outside: each request waits until the test lets it through.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from temporalio.service import RPCError, RPCStatusCode

from dedupe.key.owner import Alive, Ended, Gone, Unclear, Whereabouts
from dedupe.model.messages import Owner, Start, UnknownOutcome
from dedupe.model.names import FORGOTTEN, REPLACED
from dedupe.model.outcome import Outcome
from dedupe.model.record import MARGIN, Closed, End, Execution, Record, Run, Unknown, record_of

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST_ATTEMPT = timedelta(seconds=60)
TICK = timedelta(milliseconds=1)

PROCESS: ContextVar[object] = ContextVar("process", default=None)
"""The worker in which code runs, whatever tasks it makes."""
LATER = "come back later"
"""Not a request: a claim waits until the test has it come back."""

Fate = Literal["answered", "answer lost", "lost"]


@dataclass
class Request:
    """One request that is on its way."""

    what: str
    perform: Callable[[], Any]
    answer: "asyncio.Future[Any]"


@dataclass
class CallState:
    """One activity of a job, as the service has it."""

    owner: Owner
    is_pending: bool = True
    last_started: datetime | None = None
    begun: int = 0
    """Attempts so far."""
    end: Outcome | None = None
    """Its end in the job's history, where it is not marked as recorded."""
    ended_recorded: bool = False
    """Whether it returned what is recorded."""
    went_on: bool = False
    """Whether it returned where the call is to go on."""


@dataclass
class Service:
    """The key's runs and the jobs' activities."""

    now: datetime = BEGINNING
    runs: list[Run] = field(default_factory=list[Run])
    late: dict[str, list[Outcome]] = field(default_factory=dict[str, list[Outcome]])
    """Outcomes that came after the first one of their run."""
    calls: dict[str, CallState] = field(default_factory=dict[str, CallState])
    ended_at: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When runs were terminated."""
    closed_jobs: set[str] = field(default_factory=set[str])
    dead: set[Any] = field(default_factory=set[Any])
    """Tasks, and processes, of workers that were killed."""
    requests: list[Request] = field(default_factory=list[Request])
    namespace: str = "default"

    def tick(self) -> datetime:
        """Let a moment pass, and return the time."""
        self.now += TICK
        return self.now

    @property
    def current(self) -> Run | None:
        """The last run of the key."""
        return self.runs[-1] if self.runs else None

    def record(self) -> Record:
        """Return what is recorded."""
        from dedupe.model.record import Absent  # noqa: PLC0415

        return Absent() if self.current is None else record_of(self.current, now=self.now)

    async def ask(self, what: str, perform: Callable[[], Any]) -> Any:
        """Make a request, and wait until it is let through. The dead make none."""
        if asyncio.current_task() in self.dead or PROCESS.get() in self.dead:
            raise asyncio.CancelledError
        request = Request(what, perform, asyncio.get_running_loop().create_future())
        self.requests.append(request)
        return await request.answer

    def let_through(self, number: int, fate: Fate) -> None:
        """Perform a request, or lose it, or lose its answer."""
        request = self.requests.pop(number % len(self.requests))
        if request.answer.done():
            return  # who asked is gone; the request had not left
        lost = RPCError("unavailable", RPCStatusCode.UNAVAILABLE, b"")
        if request.what == LATER:
            fate = "answered"
        if fate == "lost":
            request.answer.set_exception(lost)
            return
        result = request.perform()
        if fate == "answered":
            request.answer.set_result(result)
        else:
            request.answer.set_exception(lost)

    def start(self, start: Start, *, again: bool, **_: object) -> str | None:
        """Start a run: conflict policy FAIL, and REJECT_DUPLICATE unless `again`."""
        if self.runs and (self.runs[-1].closed is None or not again):
            return None
        execution = Execution(run_id=f"run-{len(self.runs) + 1}", start=start, started_at=self.tick())
        self.runs.append(Run(execution=execution))
        if start.unknown is not None:
            self.hold(execution.run_id, start.unknown)
        return execution.run_id

    def signal(self, run_id: str, outcome: Outcome, **_: object) -> bool:
        """Record an outcome."""
        index, run = self._find(run_id)
        if run.closed is not None:
            return False
        if run.end is None:
            self.runs[index] = replace(run, end=End(outcome=outcome, at=self.tick()))
        else:
            self.late.setdefault(run_id, []).append(outcome)
        return True

    def hold(self, run_id: str, said: UnknownOutcome) -> bool:
        """Note that nobody knows what became of a run."""
        index, run = self._find(run_id)
        if run.closed is not None:
            return False
        unknown = Unknown(why=said.why, since=self.tick(), over_at=said.over_at)
        self.runs[index] = replace(run, unknown=run.unknown or unknown)
        return True

    def answered(self, run_id: str) -> bool:
        """Note that an attempt of a run has failed and said so."""
        index, run = self._find(run_id)
        if run.closed is not None:
            return False
        execution = replace(run.execution, answered=run.execution.answered + 1)
        self.runs[index] = replace(run, execution=execution)
        return True

    def terminate(self, run_id: str, details: str, **_: object) -> bool:
        """End a run."""
        index, run = self._find(run_id)
        if run.closed is not None:
            return False
        self.ended_at[run_id] = self.now
        closed = {FORGOTTEN: Closed.FORGOTTEN, REPLACED: Closed.REPLACED}.get(details, Closed.OUTSIDE)
        self.runs[index] = replace(run, closed=closed, execution=replace(run.execution, is_open=False))
        return True

    def find(self, run_id: str = "") -> Run | None:
        """Return a run; the current one where no id is given."""
        return self.current if not run_id else self._find(run_id)[1]

    def _find(self, run_id: str) -> tuple[int, Run]:
        return next((i, run) for i, run in enumerate(self.runs) if run.execution.run_id == run_id)

    def whereabouts(self, owner: Owner) -> Whereabouts:
        """Return what became of a call, as `dedupe.key.owner` makes it out of what the service says."""
        call = self.calls.get(owner.activity_id)
        is_closed = owner.run_id in self.closed_jobs
        if call is not None and call.is_pending:
            if not is_closed or call.last_started is None:
                return Gone(begun=call.begun) if is_closed else Alive()
            return Gone() if call.last_started + LONGEST_ATTEMPT + MARGIN <= self.now else Alive()
        if call is not None and call.end is not None:
            return Ended(call.end)
        if call is not None and call.went_on:
            return Gone()
        if call is not None and call.ended_recorded:
            return Unclear()
        return Gone() if is_closed else Unclear()

    def is_last_attempt(self, owner: Owner, *, started_at: datetime) -> bool:
        """Return whether no attempt of a call follows, or is under way beside this one."""
        call = self.calls[owner.activity_id]
        return owner.run_id in self.closed_jobs and call.is_pending and call.last_started == started_at
