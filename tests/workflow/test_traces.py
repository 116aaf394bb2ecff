"""Traces: by the SDK's interceptor or plugin a call is one trace, from the client's start to the effect."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.opentelemetry import (
    OpenTelemetryPlugin,
    ReplaySafeTracerProvider,
    TracingInterceptor,
    create_tracer_provider,
)
from temporalio.contrib.opentelemetry.workflow import completed_span
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from dedupe.operate.job import calls_of
from tests.support.ground import Ground, Grounds
from tests.support.pages import EXAMPLES
from tests.support.scripts import Call, returned


class Spans:
    """What was traced."""

    def __init__(self, provider: TracerProvider | ReplaySafeTracerProvider | None = None) -> None:
        """Begin with nothing."""
        self._exporter = InMemorySpanExporter()
        provider = provider or TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.interceptor = TracingInterceptor(provider.get_tracer("tests"))

    def take(self) -> list[ReadableSpan]:
        """Return what was traced since the last time."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans


def by_id(spans: list[ReadableSpan]) -> Mapping[int, ReadableSpan]:
    """Return spans by their ids."""
    return {span.context.span_id: span for span in spans if span.context is not None}


def ways(spans: list[ReadableSpan]) -> Counter[str]:
    """Return the way from its root to each span, by names."""
    known = by_id(spans)

    def way(span: ReadableSpan) -> str:
        if span.parent is None:
            return span.name
        assert span.parent.span_id in known, f"{span.name} is an orphan"
        return f"{way(known[span.parent.span_id])} > {span.name}"

    return Counter(way(span) for span in spans)


def traced(grounds: Grounds, *, in_place: bool = True) -> tuple[Ground, Spans]:
    """Return a ground whose client traces."""
    spans = Spans()
    return grounds(client_config={"interceptors": [spans.interceptor]}, in_place=in_place), spans


STARTED = "StartWorkflow:Script > StartActivity:effect"


async def test_one_trace_from_the_start_to_the_effect(real_grounds: Grounds) -> None:
    """As of a plain call: what the package does in between is no span of its own."""
    ground, spans = traced(real_grounds)
    async with ground.worker():
        assert await ground.call() == returned("argument")
    found = spans.take()
    assert ways(found)[f"{STARTED} > RunActivity:effect"] == 1
    assert sum("dedupe" in span.name for span in found) == 0
    assert len({span.context.trace_id for span in found if span.context is not None}) == 1


async def execute_join_and_reuse(ground: Ground, result: str) -> None:
    """Run three jobs: one executes, one joins it, and one comes later."""
    gate = ground.effects.close()
    first = await ground.start_script(Call())
    await ground.effects.seen(1)
    second = await ground.start_script(Call())
    await ground.claiming(1, second)
    gate.set()
    assert await first.result() == await second.result() == [[returned(result)]]
    assert await ground.call() == returned(result)


async def test_calls_that_execute_nothing_have_no_effect_in_their_traces(real_grounds: Grounds) -> None:
    """A joined and a reused call end in the span of the call; each job has its own trace, without orphans."""
    ground, spans = traced(real_grounds)
    async with ground.worker():
        await execute_join_and_reuse(ground, "argument")
    found = ways(spans.take())
    assert found[STARTED] == 3
    assert found[f"{STARTED} > RunActivity:effect"] == 1
    assert sum(count for way, count in found.items() if " > " not in way) == 3


async def test_each_attempt_is_a_span(real_grounds: Grounds) -> None:
    """Of the one call."""
    ground, spans = traced(real_grounds)
    ground.effects.then(ApplicationError("busy"), "done")
    async with ground.worker():
        assert await ground.call(Call(attempts=2)) == returned("done")
    assert ways(spans.take())[f"{STARTED} > RunActivity:effect"] == 2


async def test_a_delegated_call_has_one_trace_as_well(real_grounds: Grounds) -> None:
    """The headers of the call go with what its key's workflow schedules."""
    ground, spans = traced(real_grounds, in_place=False)
    async with ground.worker():
        assert await ground.call() == returned("argument")
    assert ways(spans.take())[f"{STARTED} > RunActivity:effect"] == 1


async def test_a_hook_gives_each_answer_a_span(real_grounds: Grounds) -> None:
    """With `TracingInterceptor` by the SDK's own function, which has no links: it names the trace."""

    def span(call: dedupe.AnsweredCall) -> None:
        executed = {} if call.traceparent is None else {"dedupe.traceparent": call.traceparent}
        completed_span(f"dedupe:{call.answer}", attributes={"dedupe.key": call.key_workflow_id, **executed})

    spans = Spans()
    ground = real_grounds(client_config={"interceptors": [spans.interceptor]}, on_answer=span)
    async with ground.worker():
        for _ in range(2):
            assert await ground.call() == returned("argument")
    answers = {each.name: each for each in spans.take() if each.name.startswith("dedupe:")}
    assert set(answers) == {"dedupe:executed", "dedupe:reused"}
    attributes = answers["dedupe:reused"].attributes
    assert attributes is not None
    assert attributes["dedupe.key"] == ground.keys.workflow_id("key")
    executed = answers["dedupe:executed"].context
    assert executed is not None
    assert f"{executed.trace_id:032x}" in str(attributes["dedupe.traceparent"])
    assert answers["dedupe:reused"].parent is not None


async def test_an_answer_leads_to_the_trace_of_the_effect(real_grounds: Grounds) -> None:
    """Whoever executed: the hook knows the job and the trace, and so does who looks at the key."""
    calls: list[dedupe.AnsweredCall] = []
    spans = Spans()
    ground = real_grounds(client_config={"interceptors": [spans.interceptor]}, on_answer=calls.append)
    ground.effects.then("done", ApplicationError("no", non_retryable=True))
    async with ground.worker():
        await execute_join_and_reuse(ground, "done")
        for _ in range(2):
            await ground.call(Call(key="other", skip_failure=True))
    [effect, failed] = [span for span in spans.take() if span.name == "RunActivity:effect"]
    jobs = [job.id for job in ground.jobs]
    assert {(call.job_id, call.answer.value): call.executed_by for call in calls} == {
        (jobs[0], "executed"): jobs[0],
        (jobs[1], "joined"): jobs[0],
        (jobs[2], "reused"): jobs[0],
        (jobs[3], "failed"): jobs[3],
        (jobs[4], "failed"): jobs[3],
    }
    for call in calls:
        span = failed if call.job_id in jobs[3:] else effect
        assert span.parent is not None
        trace_id, span_id = f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}"
        assert call.traceparent is not None
        assert call.traceparent.startswith(f"00-{trace_id}-{span_id}-")
    record = await ground.keys.get("key")
    assert record is not None
    assert effect.context is not None
    assert record.trace_id == f"{effect.context.trace_id:032x}"
    told = [(call.answer, call.executed_by) async for call in calls_of(ground.client, jobs[2])]
    assert told == [("reused", jobs[0])]


async def test_a_call_that_nothing_traces(real_grounds: Grounds) -> None:
    """Has no trace, and the answer says whose execution it was all the same."""
    calls: list[dedupe.AnsweredCall] = []
    ground = real_grounds(on_answer=calls.append)
    async with ground.worker():
        for _ in range(2):
            assert await ground.call() == returned("argument")
    assert [(call.executed_by, call.traceparent) for call in calls] == [(ground.jobs[0].id, None)] * 2


@activity.defn
async def traced_effect() -> None:
    """Have a span of its own."""
    with trace.get_tracer("tests").start_as_current_span("in the effect"):
        pass


@workflow.defn
class TracedJob:
    """Calls the activity within a span of its own."""

    @workflow.run
    async def run(self, key: str | None) -> None:
        """Call it, with a key or without."""
        within = timedelta(seconds=10)
        with trace.get_tracer("tests").start_as_current_span("in the job"):
            if key is None:
                await workflow.execute_activity(traced_effect, start_to_close_timeout=within)
            else:
                await dedupe.execute_activity(
                    traced_effect, deduplication_key=key, start_to_close_timeout=within
                )


async def traced_jobs(server: Client, spans: Spans, plugin: dedupe.DedupePlugin) -> list[list[ReadableSpan]]:
    """Return the spans of a job without a key, and of two with one, traced by the SDK's plugin."""
    task_queue = f"traced-{uuid4()}"
    config = server.config()
    config["plugins"] = [OpenTelemetryPlugin(add_temporal_spans=True), plugin]
    client = Client(**config)
    found: list[list[ReadableSpan]] = []
    async with Worker(client, task_queue=task_queue, workflows=[TracedJob], activities=[traced_effect]):
        for key in (None, "key", "key"):
            await client.execute_workflow(TracedJob.run, key, id=f"job-{uuid4()}", task_queue=task_queue)
            found.append(spans.take())
    return found


def ids(context: trace.SpanContext | None) -> tuple[int, int]:
    """Return the ids of a trace and of a span."""
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    """Return to what a span has links."""
    return [ids(link.context) for link in span.links]


async def test_the_hook_of_the_docs_links_an_answer_to_the_execution(
    real_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span of an answer belongs to its call; its link is the call that executed."""
    provider = create_tracer_provider()
    spans = Spans(provider)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    example: dict[str, Any] = {}
    exec(EXAMPLES["tracing.py"], example)  # noqa: S102 - it is ours
    plugin = dedupe.DedupePlugin(
        organization="acme", project=f"project-{uuid4()}", on_answer=example["link_to_execution"]
    )
    _, executing, reusing = await traced_jobs(real_client, spans, plugin)
    [call] = [span for span in executing if span.name == "StartActivity:traced_effect"]
    [reused] = [span for span in reusing if span.name == "dedupe:reused"]
    assert linked(reused) == [ids(call.context)]
    call_of_job = "StartWorkflow:TracedJob > RunWorkflow:TracedJob > in the job > StartActivity:traced_effect"
    assert ways(reusing)[f"{call_of_job} > dedupe:reused"] == 1
    [executed] = [span for span in executing if span.name == "dedupe:executed"]
    assert linked(executed) == [ids(call.context)]


async def test_the_plugin_traces_a_call_as_it_does_a_plain_one(
    real_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OpenTelemetryPlugin`, beside this package's: the user's own spans are where they belong, no orphans.

    A call that is answered by a record ends with the span of the call.
    """
    provider = create_tracer_provider()
    spans = Spans(provider)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    plain, executed, reused = map(
        ways,
        await traced_jobs(
            real_client, spans, dedupe.DedupePlugin(organization="acme", project=f"project-{uuid4()}")
        ),
    )
    job = "StartWorkflow:TracedJob > RunWorkflow:TracedJob > in the job"
    call = f"{job} > StartActivity:traced_effect"
    assert plain[f"{call} > RunActivity:traced_effect > in the effect"] == 1
    assert executed == plain
    assert reused == Counter({way: count for way, count in plain.items() if "RunActivity" not in way})
