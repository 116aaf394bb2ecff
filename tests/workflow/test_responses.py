"""A model's answer over several attempts: the service hands on which response was begun."""

from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from temporalio import workflow
from temporalio.contrib.pydantic import pydantic_data_converter

import dedupe
import dedupe.testing

with workflow.unsafe.imports_passed_through():
    from activities.responses import Answer, OpenAITransport, Prompt, ResponseActivities
    from tests.fakes.openai_server import API_KEY, OpenAIServer, error
    from tests.fakes.provider import Refuse

PROMPT = Prompt(model="gpt-loopback", text="Hello")


@workflow.defn
class AskJob:
    """Asks a model once."""

    @workflow.run
    async def run(self, prompt: Prompt) -> Answer:
        """Ask."""
        return await dedupe.execute_activity(
            ResponseActivities.create_response,
            prompt,
            deduplication_key="ask",
            start_to_close_timeout=timedelta(minutes=5),
        )


class Interrupted(OpenAITransport):
    """Finds OpenAI busy once it has begun the first response."""

    def __init__(self, server: OpenAIServer) -> None:
        """Ask this server."""
        super().__init__(api_key=SecretStr(API_KEY), base_url=f"{server.url}/v1")
        self._server = server

    async def begin(self, prompt: Prompt, idempotency_key: str) -> str:
        """See `ResponseTransport`."""
        response_id = await super().begin(prompt, idempotency_key)
        if len(self._server.effects) == 1:
            self._server.inject(Refuse(error(503, "overloaded", "Later")))
        return response_id


async def test_the_next_attempt_goes_on(tmp_path: Path) -> None:
    """It gets the id that the first one heartbeated, though that one failed; the model is asked once."""
    with OpenAIServer(ledger=tmp_path / "openai.sqlite3", api_key=API_KEY) as server:
        transport = Interrupted(server)
        activities = ResponseActivities(transport)
        async with dedupe.testing.environment(
            workflows=[AskJob],
            activities=[activities.create_response],
            data_converter=pydantic_data_converter,
        ) as dd:
            answer = await dd.run(AskJob.run, PROMPT)
        await transport._client.close()
        assert answer.text == "You said: Hello"
        assert len(server.effects) == 1
