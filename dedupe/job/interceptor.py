"""The interceptor: where a call enters and leaves, in the caller's workflow.

`dedupe.execute_activity` reaches this point through the SDK's own `start_activity`, so other interceptors
have seen the call, and their headers travel on to the activity. The call is prepared, takes its steps, and
what it gets is opened and reported.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, assert_never

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.worker import (
    ContinueAsNewInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from dedupe.job.answer import open_failure, open_result
from dedupe.job.calls import CALL, SCOPED
from dedupe.job.page import Page
from dedupe.job.request import Call, prepare
from dedupe.job.steps import CallEnd, CallSettings, Steps
from dedupe.model.answer import FailedAnswer, How, SucceededAnswer
from dedupe.model.failed_result import FailedResult
from dedupe.model.messages import Executor
from dedupe.model.names import WITHIN
from dedupe.sdk import innermost, silence
from dedupe.telemetry.answers import Answers, CallAnswer, answer_of


class DedupeInterceptor(Interceptor):
    """Carries out the deduplicated calls of a worker's jobs. Everything else passes untouched."""

    def __init__(self, settings: CallSettings) -> None:
        """Create the interceptor for one worker or replayer."""
        self._settings = settings

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Lend the jobs the keyspace, and carry out their calls."""
        settings = self._settings
        input.unsafe_extern_functions[SCOPED] = settings.keyspace.scoped

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(innermost(outbound, lambda last: _Outbound(last, settings)))

        return Inbound


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, settings: CallSettings) -> None:
        super().__init__(next)
        self._settings = settings
        self._steps = Steps(next, settings)
        self._answers = Answers(settings.on_answer)
        self._page = Page()

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _passed_on(input.headers)
        deduplication = CALL.get()
        if deduplication is None or input.activity != deduplication.activity:
            return self.next.start_activity(input)
        settings = self._settings
        call = prepare(
            deduplication,
            input,
            on_mismatch=settings.on_mismatch,
            searchable=settings.search_attributes,
        )
        handle = workflow.ActivityHandle(self._reported(call))
        silence(handle)
        return handle

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = _passed_on(input.headers)
        return await self.next.start_child_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        input.headers = _passed_on(input.headers)
        self.next.continue_as_new(input)

    async def _reported(self, call: Call) -> Any:
        """Carry out the call, and report how it was answered."""
        answer: CallEnd | None = None
        try:
            answer = await self._steps.take(call)
            how, end = self._open(call, answer)
        except Exception as error:
            self._report(call, answer_of(error), end=error, executor=_executor(call, answer))
            raise
        self._report(call, how, end=end, executor=_executor(call, answer))
        return end

    def _report(self, call: Call, how: CallAnswer, *, end: object, executor: Executor | None) -> None:
        question = call.question
        self._page.add(how, key=question.key, activity=question.activity, executor=executor)
        self._answers.report(
            how,
            key=question.key,
            key_workflow_id=question.key_id,
            activity=question.activity,
            called_at=question.called_at,
            end=end,
            executor=executor,
        )

    def _open(self, call: Call, answer: CallEnd) -> tuple[CallAnswer, Any]:
        """Return how a call was answered, and what it returns.

        Raises:
            ActivityError: The activity failed, and the call does not skip that.
            UnreadableRecordError: The answer is of another type.
        """
        match answer:
            case SucceededAnswer():
                return CallAnswer(answer.how.value), open_result(call, answer.result)
            case FailedAnswer():
                converter = self._settings.failure_converter
                return CallAnswer.FAILED, open_failure(call, answer, converter=converter)
            case FailedResult():
                return CallAnswer.FAILED, answer
            case _ as never:
                assert_never(never)


def _executor(call: Call, answer: CallEnd | None) -> Executor | None:
    """Return whose execution an answer comes from; None where that is not known."""
    match answer:
        case SucceededAnswer(executor=None, how=How.JOINED | How.REUSED) | FailedResult() | None:
            return None
        case SucceededAnswer(executor=None) | FailedAnswer(executor=None):
            return Executor(job_id=workflow.info().workflow_id, traceparent=call.question.traceparent)
        case SucceededAnswer(executor=executor) | FailedAnswer(executor=executor):
            return executor


def _passed_on(headers: Mapping[str, Payload]) -> Mapping[str, Payload]:
    """Return the headers of what this job starts: it is within the same executions."""
    within = workflow.info().headers.get(WITHIN)
    return headers if within is None else {**headers, WITHIN: within}
