"""The protocol, driven step by step through interleavings, losses and deaths that no server can be made to
show.

The code of attempts, claims and of the record is the package's own; only the service is one in memory, where
each request waits until it is let through, is lost, or has its answer lost. What must hold is said as
invariants, each checked when an effect begins or a call is answered.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, TimeoutFailureInfo
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

import dedupe.claims.crowd
import dedupe.execution.attempt
import dedupe.key.begin
from dedupe.claims.claim import _Attempt
from dedupe.claims.crowd import Crowd
from dedupe.claims.settle import _settle
from dedupe.execution.attempt import Attempt
from dedupe.key.attempts import Story
from dedupe.model.answer import FailedAnswer, SucceededAnswer, decode_answer
from dedupe.model.marks import is_recorded, unmarked
from dedupe.model.messages import Claim, Execute, NotHeld, Order, Owner, Question, Start, Wait
from dedupe.model.names import FORGOTTEN, INTERRUPTED
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded
from dedupe.model.payloads import decode_referral, encode_referral, is_referral
from dedupe.model.record import Closed, Executing, Held, Run, Settled
from dedupe.record.handle import KeyHandle
from tests.rig.service import LATER, LONGEST_ATTEMPT, PROCESS, CallState, Fate, Service

MOST_ATTEMPTS = 3
TTL = timedelta(seconds=5)


class LostError(Exception):
    """The worker died."""


def time_out_failure() -> Failure:
    """Return the failure of an activity whose last attempt gave no answer."""
    cause = Failure(message="timed out", timeout_failure_info=TimeoutFailureInfo())
    return Failure(message="Activity task timed out", cause=cause)


def failure(*, definite: bool) -> Failure:
    """Return the failure of an activity."""
    info = ApplicationFailureInfo(type="Refused", non_retryable=definite)
    cause = Failure(message="refused", application_failure_info=info)
    made = Failure(message="Activity task failed", cause=cause)
    made.activity_failure_info.activity_type.name = "charge"
    return made


@dataclass
class Effect:
    """One effect that has begun."""

    call: str
    run_id: str
    idempotency_key: str
    deadline: datetime
    end: "asyncio.Future[str]"
    forced: bool = False
    hold: bool = False
    """Whether it is to be held where nobody knows whether it happened."""
    how: str | None = None
    """How it ended: see `ENDS`; None: it has not, or it was interrupted."""
    is_resolved: bool = False
    """Whether an operator has said that it did not happen, or has forgotten it."""


@dataclass
class Stage:
    """Everything of one example."""

    service: Service = field(default_factory=Service)
    effects: list[Effect] = field(default_factory=list[Effect])
    begun: list[Effect] = field(default_factory=list[Effect])
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    jobs: dict[str, "asyncio.Task[None]"] = field(default_factory=dict[str, "asyncio.Task[None]"])
    attempts: dict[str, "asyncio.Task[Payload]"] = field(default_factory=dict[str, "asyncio.Task[Payload]"])
    time_outs: dict[str, "asyncio.Task[Any]"] = field(default_factory=dict[str, "asyncio.Task[Any]"])
    zombies: list["asyncio.Task[Payload]"] = field(default_factory=list["asyncio.Task[Payload]"])
    processes: dict[Any, object] = field(default_factory=dict[Any, object])
    """Of attempts, by their tasks."""
    given_up: dict[object, datetime] = field(default_factory=dict[object, datetime])
    """By process, when the service gave up its attempt."""
    calls: int = 0
    was_forced: bool = False

    # -------------------------------------------------------------------------------------- what jobs do

    def ask(self, *, skip_failure: bool, ttl: timedelta | None = None, hold: bool = False) -> None:
        """Let a job make a call."""
        self.calls += 1
        name = f"call-{self.calls}"
        self.jobs[name] = asyncio.ensure_future(
            self._job(name, skip_failure=skip_failure, ttl=ttl, hold=hold)
        )

    async def _job(self, name: str, *, skip_failure: bool, ttl: timedelta | None, hold: bool) -> None:
        """What `dedupe.job.steps` does, one after the other."""
        question = Question(
            key_id="proj:o/p:k",
            key="k",
            activity="charge",
            skip_failure=skip_failure,
            called_at=self.service.now,
            hold=hold,
        )
        payload = encode_referral(Execute())
        step = 0
        while (answer := decode_answer(payload)) is None:
            step += 1
            match referral := decode_referral(payload):
                case Execute():
                    payload = await self._execute(name, f"{name}~{step}", question, referral, ttl)
                case Wait():
                    payload = await self._claim(question, referral)
                case NotHeld():
                    self.answers[name] = "not held"
                    return
                case _:
                    raise AssertionError(referral)
        self.answers[name] = answer
        self._check_answer(answer)

    async def _execute(
        self, job: str, activity_id: str, question: Question, execute: Execute, ttl: timedelta | None
    ) -> Payload:
        """Schedule the twin, and have the service attempt it until it ends."""
        owner = Owner(workflow_id=job, run_id=job, activity_id=activity_id, longest_attempt=LONGEST_ATTEMPT)
        call = self.service.calls[activity_id] = CallState(owner)
        scheduled_at = self.service.now
        outcome = Failed(time_out_failure())
        for number in range(1, MOST_ATTEMPTS + 1):
            order = Order.to_execute(question, execute, ttl=ttl)
            call.last_started, call.begun = self.service.now, number
            attempt = asyncio.ensure_future(self._attempt(owner, order, number, scheduled_at))
            timed_out = asyncio.ensure_future(asyncio.Event().wait())
            self.attempts[activity_id] = attempt
            self.time_outs[activity_id] = timed_out
            try:
                await asyncio.wait({attempt, timed_out}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.zombies.append(attempt)  # what becomes of it now is nothing to this call
                self.time_outs.pop(activity_id).cancel()
            if not attempt.done() or attempt.cancelled() or isinstance(attempt.exception(), LostError):
                call.last_started = None
                outcome = Failed(time_out_failure())
                if question.hold:
                    if self.calls % 2:  # some services know which time-outs not to retry
                        break
                    await self.service.ask(LATER, lambda: None)
                continue
            task = attempt
            if task.exception() is None:
                return await self._returned(call, task.result())
            error = task.exception()
            assert isinstance(error, ApplicationError), error
            outcome = Failed(failure(definite=error.non_retryable))
            if error.type == INTERRUPTED:
                outcome.failure.cause.application_failure_info.type = INTERRUPTED
            if error.non_retryable:
                break
            if question.hold and number < MOST_ATTEMPTS:
                call.last_started = None
                await self.service.ask(LATER, lambda: None)
        call.is_pending = False
        call.end = outcome
        payload = await self._settle(owner, outcome)
        if isinstance(decode_referral(payload), NotHeld):  # it never acquired the key: a failure of its own
            return encode_referral(Wait() if question.hold and not outcome.is_answer else NotHeld())
        return payload

    async def _returned(self, call: CallState, payload: Payload) -> Payload:
        call.is_pending = False
        if is_recorded(payload):
            call.ended_recorded = not is_referral(payload)
            call.went_on = is_referral(payload)
            return payload
        call.end = Succeeded(unmarked(payload))
        return await self._settle(call.owner, call.end)

    async def _settle(self, owner: Owner, outcome: Outcome) -> Payload:
        while True:
            try:
                return await _settle(self.key, owner, outcome, now=self.service.now, at=None)
            except RPCError:
                continue

    async def _claim(self, question: Question, wait: Wait) -> Payload:
        crowd = Crowd(self._client, task_queue="keys", most_following=0, in_place={"charge"})
        claim = Claim(question=question, asked_at=wait.asked_at, waited_for=wait.run_id)
        scheduled, number = self.service.now, 0
        while True:
            number += 1
            info: Any = SimpleNamespace(
                scheduled_time=scheduled,
                current_attempt_scheduled_time=self.service.now,
                attempt=number,
                start_to_close_timeout=timedelta(minutes=1),
                schedule_to_close_timeout=None,
                heartbeat_timeout=None,
                heartbeat_details=[],
                workflow_id="w",
                workflow_run_id="r",
                activity_id="c",
            )
            try:
                return await _Attempt(crowd, claim, Payload(), info).answer()
            except (ApplicationError, RPCError):
                await self.service.ask(LATER, lambda: None)

    # --------------------------------------------------------------------------------- what workers do

    async def _attempt(self, owner: Owner, order: Order, number: int, scheduled_at: datetime) -> Payload:
        attempt = Attempt(
            key=self.key,
            question=order.question("charge", called_at=scheduled_at),
            ttl=order.ttl,
            waited_for=order.waited_for,
            owner=owner,
            number=number,
            asked_at=order.asked_at or scheduled_at,
            now=self.service.now,
            started_at=self.service.now,
            task_queue="keys",
        )
        deadline = self.service.now + LONGEST_ATTEMPT
        process = object()
        PROCESS.set(process)
        self.processes[asyncio.current_task()] = process

        async def effect(start: Start) -> Payload:
            return await self._effect(owner, start, deadline)

        return await attempt.run(effect, encode=lambda result: result)

    async def _effect(self, owner: Owner, start: Start, deadline: datetime) -> Payload:
        self._check_begin(owner, start)
        run = self.service.current
        assert run is not None
        effect = Effect(
            call=owner.activity_id,
            run_id=run.execution.run_id,
            idempotency_key=start.idempotency_key,
            deadline=min(deadline, self.given_up.get(PROCESS.get(), deadline)),
            end=asyncio.get_running_loop().create_future(),
            hold=start.hold,
        )
        self.effects.append(effect)
        self.begun.append(effect)
        try:
            how = effect.how = await effect.end
        finally:
            self.effects.remove(effect)
        match how:
            case "returns":
                return Payload(
                    metadata={"encoding": b"json/plain"}, data=f'"{effect.call} {len(self.begun)}"'.encode()
                )
            case "fails":
                raise ApplicationError("refused", type="Refused", non_retryable=True)
            case "is lost":
                self.service.dead.add(PROCESS.get())
                raise LostError
            case _:
                raise ApplicationError("refused", type="Refused")

    # --------------------------------------------------------------------------------------- invariants

    def _check_begin(self, owner: Owner, start: Start) -> None:
        """Check what must hold whenever an effect begins."""
        run = self.service.current
        assert run is not None
        assert self.was_forced or run.closed in {None, Closed.OUTSIDE}, (
            "an effect begins on a run that is closed"
        )
        assert self.was_forced or run.end is None, "an effect begins on a run that has an outcome"
        named = run.execution.owner
        assert self.was_forced or (named is not None and named.is_same_call(owner)), (
            "another call holds the key"
        )
        alive = [other for other in self.effects if other.deadline > self.service.now and not other.forced]
        assert all(other.call == owner.activity_id for other in alive), "two calls execute at once"
        if len(self.service.runs) > 1 and not self.was_forced:
            previous = self.service.runs[-2]
            keeps = start.idempotency_key == previous.execution.start.idempotency_key
            # Who has read it before it expired keeps the key, who has read it since does not.
            assert self._has_expired(previous) or keeps == self._leaves_open(previous), (
                "the idempotency key moved on, or stayed, without a reason"
            )
        self._check_that_nothing_is_unknown()
        # Where other attempts of this call are on their way, theirs is the same.
        same = {other.idempotency_key for other in self.effects if other.run_id == run.execution.run_id}
        assert same <= {start.idempotency_key}

    def _check_that_nothing_is_unknown(self) -> None:
        """Check that no effect begins beside one that is to be held, and has happened for all one knows."""
        for effect in self.begun:
            if not effect.hold or effect.is_resolved or effect.how in {"fails", "fails softly"}:
                continue
            run = self.service.find(effect.run_id)
            assert run is not None
            assert run.end is not None, "an effect begins beside one of which nobody knows"
            assert isinstance(run.end.outcome, Succeeded), "an effect was given up of which nobody knows"

    def _has_expired(self, run: Run) -> bool:
        ttl = run.execution.start.ttl
        return ttl is not None and run.end is not None and run.end.at + ttl <= self.service.now

    def _leaves_open(self, run: Run) -> bool:
        """Return whether the effect of a run may have happened, so that the next one continues it."""
        if run.closed is Closed.FORGOTTEN:
            return False
        if run.end is None:
            return run.closed is Closed.OUTSIDE
        outcome = run.end.outcome
        is_kept = isinstance(outcome, Succeeded) and run.closed is not Closed.OUTSIDE
        return not is_kept and not (isinstance(outcome, Failed) and outcome.is_definite)

    def _check_answer(self, answer: SucceededAnswer | FailedAnswer) -> None:
        """Check that a call got what is, or was, recorded."""
        recorded = [run.end.outcome for run in self.service.runs if run.end is not None]
        if isinstance(answer, SucceededAnswer):
            results = [outcome.result for outcome in recorded if isinstance(outcome, Succeeded)]
            assert self.was_forced or answer.result in results, "a call got a result that is not recorded"
        else:
            failures = [outcome.failure for outcome in recorded if isinstance(outcome, Failed)]
            assert self.was_forced or answer.failure in failures, "a call got a failure that is not recorded"

    def check(self) -> None:
        """Check what must hold at any time."""
        assert sum(run.closed is None for run in self.service.runs) <= 1
        for run in self.service.runs[:-1]:
            if run.closed is Closed.REPLACED:
                assert run.end is not None, "a run without an outcome was replaced"
                is_kept = isinstance(run.end.outcome, Succeeded) and run.execution.start.ttl is None
                assert not is_kept, "a success was replaced"

    # ---------------------------------------------------------------------------------- what else happens

    def end_effect(self, number: int, how: str) -> None:
        """End an effect that is under way."""
        if self.effects:
            effect = self.effects[number % len(self.effects)]
            if not effect.end.done():
                effect.end.set_result(how)

    def time_out(self, number: int) -> None:
        """Let the service give up an attempt whose worker goes on: the next one begins beside it."""
        names = list(self.time_outs)
        if names:
            name = names[number % len(names)]
            for effect in self.effects:
                if effect.call == name:
                    effect.deadline = self.service.now
            self.given_up[self.processes.get(self.attempts[name])] = self.service.now
            self.time_outs[name].cancel()

    def close_job(self, number: int) -> None:
        """Terminate a job; what it has under way runs on."""
        open_jobs = [name for name, task in self.jobs.items() if not task.done()]
        if open_jobs:
            name = open_jobs[number % len(open_jobs)]
            self.service.closed_jobs.add(name)
            self.jobs[name].cancel()

    def kill(self, number: int) -> None:
        """Kill a worker in the middle of an attempt."""
        running = [task for task in self.attempts.values() if not task.done()]
        if running:
            task = running[number % len(running)]
            self.service.dead |= {task, self.processes.get(task, task)}
            task.cancel()

    def pass_time(self) -> None:
        """Let so much time pass that no attempt that is under way can be alive."""
        self.service.now += LONGEST_ATTEMPT + timedelta(seconds=20)
        for task in (*self.attempts.values(), *self.zombies):
            self.service.dead |= {task, self.processes.get(task, task)}
            task.cancel()

    def end_run(self) -> None:
        """Terminate the key's workflow, as an operator does who knows nothing of records."""
        run = self.service.current
        if run is not None:
            self.service.terminate(run.execution.run_id, "by hand")

    def forget(self, *, force: bool) -> None:
        """Drop the record, as an operator does; of an executing key only by force."""
        match self.service.record():
            case Settled(execution=execution):
                owner = execution.owner
                call = self.service.calls.get(owner.activity_id) if owner else None
                if call is not None and call.is_pending and not force:
                    return
            case Executing(execution=execution) | Held(execution=execution) if force:
                pass
            case _:
                return
        for effect in self.effects:
            effect.forced = True
        for effect in self.begun:
            effect.is_resolved = effect.is_resolved or effect.run_id == execution.run_id or force
        self.was_forced = self.was_forced or bool(self.effects) or force
        if execution.is_open:
            self.service.terminate(execution.run_id, FORGOTTEN)

    def resolve(self) -> None:
        """Say what became of a held key, as an operator does who looks at the provider."""
        record = self.service.record()
        if not isinstance(record, Held) or record.unknown.over_at > self.service.now:
            return
        doubtful = [effect for effect in self.begun if effect.hold and not effect.is_resolved]
        if any(effect.how == "returns" for effect in doubtful):
            result = Payload(metadata={"encoding": b"json/plain"}, data=b'"found"')
            self.service.signal(record.execution.run_id, Succeeded(result))
            return
        for effect in doubtful:
            effect.is_resolved = True
        self.service.signal(record.execution.run_id, Abandoned())

    @property
    def key(self) -> KeyHandle:
        """The key's handle, on this service."""
        return KeyHandle(client=self._client, key_id="proj:o/p:k")

    @property
    def _client(self) -> Any:
        return self.service


# ------------------------------------------------------------------------------------------------ the handle


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let handles of keys talk to a service in memory."""

    def request(what: str, perform: Callable[..., Any]) -> Callable[..., Any]:
        async def made(key: KeyHandle, *args: Any, **options: Any) -> Any:
            service: Any = key.client
            return await service.ask(what, lambda: perform(service, *args, **options))

        return made

    async def story_of(client: Any, execution: Any, *, key_id: str, now: datetime) -> Story:
        del client, execution, key_id, now
        return Story(words="")

    async def whereabouts(client: Any, owner: Owner, *, now: datetime) -> Any:
        del now
        return await client.ask("describe", lambda: client.whereabouts(owner))

    async def is_last_attempt(client: Any, owner: Owner, *, number: int, started_at: datetime) -> Any:
        del number
        return await client.ask("describe", lambda: client.is_last_attempt(owner, started_at=started_at))

    methods = {
        "run": request("read", Service.find),
        "acquire": request("start", Service.start),
        "record": request("signal", Service.signal),
        "hold": request("signal", Service.hold),
        "answered": request("signal", Service.answered),
        "end": request("terminate", Service.terminate),
    }
    for name, method in methods.items():
        monkeypatch.setattr(KeyHandle, name, method)
    monkeypatch.setattr(dedupe.key.begin, "whereabouts", whereabouts)
    monkeypatch.setattr(dedupe.claims.crowd, "whereabouts", whereabouts)
    monkeypatch.setattr(dedupe.claims.crowd, "story_of", story_of)
    monkeypatch.setattr(dedupe.execution.attempt, "is_last_attempt", is_last_attempt)
    monkeypatch.setattr(dedupe.claims.crowd, "_ASKED_LATELY", timedelta(0))


# ------------------------------------------------------------------------------------------------- the steps


NUMBERS = st.integers(0, 7)
FATES: st.SearchStrategy[Fate] = st.sampled_from(["answered", "answered", "answered", "answer lost", "lost"])
ENDS = ["returns", "returns", "fails", "fails softly", "is lost"]
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.booleans(), st.booleans()),
    st.tuples(st.just("ask to hold"), st.booleans(), st.booleans()),
    st.tuples(st.just("through"), NUMBERS, FATES),
    st.tuples(st.just("through"), NUMBERS, FATES),
    st.tuples(st.just("through"), NUMBERS, FATES),
    st.tuples(
        st.just("end"), NUMBERS, st.sampled_from(["returns", "returns", "fails", "fails softly", "is lost"])
    ),
    st.tuples(st.just("time out"), NUMBERS, st.none()),
    st.tuples(st.just("close job"), NUMBERS, st.none()),
    st.tuples(st.just("kill"), NUMBERS, st.none()),
    st.tuples(st.just("pass time"), st.none(), st.none()),
    st.tuples(st.just("resolve"), st.none(), st.none()),
    st.tuples(st.just("expire"), st.none(), st.none()),
    st.tuples(st.just("end run"), st.none(), st.none()),
    st.tuples(st.just("forget"), st.sampled_from([False, False, False, True]), st.none()),
)


async def _settle_down() -> None:
    """Let everything run that does not wait for the test."""
    for _ in range(12):
        await asyncio.sleep(0)


async def play(steps: list[Any]) -> Stage:  # noqa: C901, PLR0912 - a table: one case for each kind of step
    """Play an example to its end, and return what came of it."""
    stage = Stage()
    for step in steps:
        match step:
            case ("ask", bool() as skip_failure, bool() as expires):
                ttl = TTL if expires else None
                stage.ask(skip_failure=skip_failure, ttl=ttl)
            case ("ask to hold", bool() as skip_failure, bool() as expires):
                ttl = TTL if expires else None
                stage.ask(skip_failure=skip_failure, ttl=ttl, hold=True)
            case ("resolve", None, None):
                stage.resolve()
            case ("through", int() as number, fate):
                if stage.service.requests:
                    stage.service.let_through(number, fate)
            case ("end", int() as number, str() as how):
                stage.end_effect(number, how)
            case ("time out", int() as number, None):
                stage.time_out(number)
            case ("close job", int() as number, None):
                stage.close_job(number)
            case ("end run", None, None):
                stage.end_run()
            case ("kill", int() as number, None):
                stage.kill(number)
            case ("pass time", None, None):
                stage.pass_time()
            case ("expire", None, None):  # no attempt is over by then
                stage.service.now += TTL
            case ("forget", bool() as force, None):
                stage.forget(force=force)
            case _:
                raise AssertionError(step)
        await _settle_down()
        stage.service.tick()
        stage.check()
    await finish(stage)
    return stage


async def finish(stage: Stage) -> None:
    """Let everything come to its end: no request is lost any more, every effect returns, and time passes."""
    for round_ in range(400):
        if all(task.done() for task in stage.jobs.values()) and not stage.effects:
            break
        for _ in range(3 * len(stage.jobs)):
            if stage.service.requests:
                stage.service.let_through(0, "answered")
                await _settle_down()
                stage.service.tick()
        stage.end_effect(0, "returns")
        await _settle_down()
        if round_ % 10 == 9:  # what a claim waits for may be an attempt that died with its job
            stage.pass_time()
            stage.resolve()
        stage.service.now += timedelta(seconds=1)
    stage.check()
    for name, task in stage.jobs.items():
        assert task.done(), f"{name} is never answered: {stage.service}"
        if not task.cancelled():
            task.result()  # raises what an invariant said
    for attempt in stage.zombies:
        if attempt.done() and not attempt.cancelled():
            error = attempt.exception()
            assert error is None or isinstance(error, LostError | ApplicationError | RPCError), error


ANSWER_LOST: list[Any] = [
    ("ask", True, False),
    ("through", 0, "answer lost"),
    ("pass time", None, None),
]
"""A call acquires the key, and cannot know it."""


THROUGH = ("through", 0, "answered")
LATE_ATTEMPT: list[Any] = [
    ("ask", True, True),
    THROUGH,
    ("time out", 0, None),
    THROUGH,
    ("end", 0, "returns"),
    THROUGH,
    ("expire", None, None),
    ("ask", False, False),
    *[THROUGH] * 5,
]
"""An attempt that was given up records, and that expires, while the next attempt executes."""


EARLY_FAREWELL: list[Any] = [
    ("ask", True, False),
    THROUGH,
    ("time out", 0, None),
    *[THROUGH] * 2,
    ("close job", 0, None),
    ("end", 0, "fails softly"),
    ("ask", False, False),
    *[THROUGH] * 10,
]
"""An attempt that was given up fails, and its job has closed, while the next attempt executes."""


ENDED_FROM_OUTSIDE: list[Any] = [
    ("ask", True, False),
    THROUGH,
    ("end run", None, None),
    ("ask", False, False),
    *[THROUGH] * 6,
    ("end", 0, "returns"),
    *[THROUGH] * 10,
]
"""An operator ends the run of a key that executes, and another call comes."""


HELD = ("ask to hold", False, False)
LOST = ("end", 0, "is lost")
ASKED_LATER: list[Any] = [("pass time", None, None), ("ask", False, False), *[THROUGH] * 12]
HELD_AT_LAST: list[Any] = [HELD, THROUGH, LOST, *[THROUGH] * 4, *ASKED_LATER * 2]
"""A call whose last attempt is lost, and others after it."""
HELD_BY_NOBODY: list[Any] = [HELD, THROUGH, LOST, ("close job", 0, None), *ASKED_LATER * 2]
"""The same, and its job has closed before it could say so."""
HELD_BETWEEN_ATTEMPTS: list[Any] = [
    ("ask", False, False),
    THROUGH,
    ("end", 0, "returns"),
    THROUGH,
    ("forget", False, None),
    HELD,
    *[THROUGH] * 3,
    LOST,
    ("close job", 0, None),
    *ASKED_LATER * 2,
]
"""The same, before an attempt that the service was about to make."""


@example(HELD_BETWEEN_ATTEMPTS)
@example(HELD_BY_NOBODY)
@example(HELD_AT_LAST)
@example(ENDED_FROM_OUTSIDE)
@example(EARLY_FAREWELL)
@example(LATE_ATTEMPT)
@example(ANSWER_LOST)
@given(st.lists(STEPS, min_size=1, max_size=60))
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_the_protocol_keeps_its_promise(steps: list[Any]) -> None:
    """One call executes a key at a time, none after a success, and the record answers every call."""
    asyncio.run(play(steps))


def test_the_examples_reach_what_they_are_about() -> None:
    """The driver can make a key succeed, and be taken from an owner that is gone."""

    async def scenario() -> None:
        stage = await play([("ask", False, False), *[("through", 0, "answered")] * 2, ("end", 0, "returns")])
        assert len(stage.begun) == 1
        stage = await play(
            [
                ("ask", False, False),
                ("through", 0, "answered"),
                ("close job", 0, None),
                ("kill", 0, None),
                ("ask", False, False),
            ]
        )
        assert [effect.run_id for effect in stage.begun] == ["run-1", "run-2"]
        assert len({effect.idempotency_key for effect in stage.begun}) == 1

    asyncio.run(scenario())
