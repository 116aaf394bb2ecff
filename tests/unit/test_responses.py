"""`create_response`: OpenAI's own SDK against a local server that behaves as documented."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from openai.types.responses import Response
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import ErrorKind
from activities.responses import (
    Answer,
    FolderSettings,
    FolderTransport,
    OpenAISettings,
    OpenAITransport,
    Prompt,
    ResponseActivities,
)
from tests.fakes import ledger
from tests.fakes.openai_server import API_KEY, CUT_OFF, FAILS, OpenAIServer, error
from tests.fakes.provider import Drop, Refuse

PROMPT = Prompt(model="gpt-loopback", text="Hello", instructions="Be brief.")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.responses._FIRST_PAUSE", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OpenAIServer]:
    """An OpenAI of this test's own."""
    with OpenAIServer(ledger=tmp_path / "openai.sqlite3", api_key=API_KEY) as server:
        yield server


@pytest.fixture
async def transport(server: OpenAIServer) -> AsyncIterator[OpenAITransport]:
    """A transport to it."""
    openai = chosen(server)
    yield openai
    await openai._client.close()


def chosen(server: OpenAIServer, *, api_key: str = API_KEY) -> OpenAITransport:
    """Return the transport that settings choose."""
    settings = OpenAISettings.model_validate(
        {"api_key": api_key, "base_url": f"{server.url}/v1", "timeout": timedelta(seconds=1)}
    )
    openai = settings.open()
    assert isinstance(openai, OpenAITransport)
    return openai


class Attempt(ActivityEnvironment):
    """An attempt, and what it heartbeats."""

    def __init__(self, *details: object) -> None:
        """Begin, with the details of the attempt before."""
        super().__init__()
        self.beats: list[tuple[object, ...]] = []
        self.info = replace(self.info, heartbeat_details=details)
        self.on_heartbeat = lambda *details: self.beats.append(details)


async def test_an_answer_is_waited_for(server: OpenAIServer, transport: OpenAITransport) -> None:
    """Its id is heartbeated before anything else; the request carries the idempotency key as metadata."""
    attempt = Attempt()
    answer = await attempt.run(ResponseActivities(transport).create_response, PROMPT)
    [effect] = server.effects
    response_id = effect.content["id"]
    assert answer == Answer(response_id=response_id, text="You said: Hello", input_tokens=9, output_tokens=7)
    assert attempt.beats[0] == (response_id,)
    assert '"idempotency_key"' in effect.content["metadata"]
    [asked] = [request for request in server.requests if request.method == "POST"]
    assert b'"background":true' in asked.body
    assert b'"store":true' in asked.body


async def test_the_stand_in_answers_what_is_published(
    server: OpenAIServer, transport: OpenAITransport
) -> None:
    """Each of its responses is one by the types that OpenAI publishes with its SDK, strictly."""
    for text in ("Hello", CUT_OFF, f"{FAILS}server_error"):
        begun = await transport.begin(PROMPT.model_copy(update={"text": text}), "k")
        await transport.wait(begun)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {API_KEY}"}) as client:
            answer = await client.get(f"{server.url}/v1/responses/{begun}")
        Response.model_validate(answer.json())


async def test_an_attempt_goes_on_with_what_was_begun(
    server: OpenAIServer, transport: OpenAITransport
) -> None:
    """The one before died once it had heartbeated: the model is asked once."""
    begun = await transport.begin(PROMPT, "k")
    answer = await Attempt(begun).run(ResponseActivities(transport).create_response, PROMPT)
    assert answer.response_id == begun
    assert len(server.effects) == 1


@pytest.mark.parametrize("gone", ["failed", "never there"])
async def test_what_came_to_nothing_is_asked_again(transport: OpenAITransport, gone: str) -> None:
    """A response that failed in the attempt before, or was deleted, is begun anew."""
    begun = "resp_0"
    if gone == "failed":
        begun = await transport.begin(PROMPT.model_copy(update={"text": f"{FAILS}server_error"}), "k")
    answer = await Attempt(begun).run(ResponseActivities(transport).create_response, PROMPT)
    assert answer.text == "You said: Hello"
    assert answer.response_id != begun


@pytest.mark.parametrize(
    ("code", "kind", "definite"),
    [
        ("server_error", ErrorKind.UNAVAILABLE, False),
        ("rate_limit_exceeded", ErrorKind.RATE_LIMITED, False),
        ("invalid_prompt", ErrorKind.INVALID_REQUEST, True),
    ],
)
async def test_a_response_that_fails_says_why(
    transport: OpenAITransport, code: str, kind: ErrorKind, *, definite: bool
) -> None:
    """What can never work is not tried again."""
    prompt = PROMPT.model_copy(update={"text": f"{FAILS}{code}"})
    with pytest.raises(ApplicationError, match="did not come to an end") as raised:
        await Attempt().run(ResponseActivities(transport).create_response, prompt)
    assert (raised.value.type, raised.value.non_retryable) == (kind, definite)
    assert raised.value.details == (code,)


async def test_an_answer_may_be_cut_off(transport: OpenAITransport) -> None:
    """It is an answer, and says so."""
    prompt = PROMPT.model_copy(update={"text": CUT_OFF})
    answer = await Attempt().run(ResponseActivities(transport).create_response, prompt)
    assert (answer.text, answer.cut_off) == (f"You said: {CUT_OFF}", "max_output_tokens")


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_connection_that_breaks_is_unknown(
    server: OpenAIServer, transport: OpenAITransport, *, after_effect: bool
) -> None:
    """Nobody knows whether the model was asked; and the SDK does not try again by itself."""
    server.inject(Drop(after_effect=after_effect))
    with pytest.raises(ApplicationError) as raised:
        await transport.begin(PROMPT, "k")
    assert (raised.value.type, raised.value.non_retryable) == ("UnknownOutcome", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "delay"),
    [
        (error(400, "model_not_found", "No such model"), ErrorKind.INVALID_REQUEST, None),
        (error(403, "unsupported_country", "Not here"), ErrorKind.UNAUTHORIZED, None),
        (
            error(429, "rate_limit_exceeded", "Slow down", **{"Retry-After": "7"}),
            ErrorKind.RATE_LIMITED,
            timedelta(seconds=7),
        ),
        (error(500, "server_error", "Oops"), ErrorKind.UNKNOWN, None),
        (ledger.Answer(status=502, body="<html>down</html>"), ErrorKind.UNKNOWN, None),
    ],
)
async def test_what_an_answer_means(
    server: OpenAIServer,
    transport: OpenAITransport,
    answer: ledger.Answer,
    kind: ErrorKind,
    delay: timedelta | None,
) -> None:
    """Where the model may have been asked, nobody knows; a rate limit says when to come back."""
    server.inject(Refuse(answer))
    with pytest.raises(ApplicationError) as raised:
        await transport.begin(PROMPT, "k")
    assert (raised.value.type, raised.value.next_retry_delay) == (kind, delay)


async def test_looking_that_fails_is_not_unknown(server: OpenAIServer, transport: OpenAITransport) -> None:
    """It is tried again, and asks for the same response."""
    begun = await transport.begin(PROMPT, "k")
    server.inject(Refuse(error(503, "overloaded", "Later")), Refuse(ledger.Answer(status=502, body="down")))
    for _ in range(2):
        with pytest.raises(ApplicationError) as raised:
            await transport.wait(begun)
        assert raised.value.type == ErrorKind.UNAVAILABLE
    assert isinstance(await transport.wait(begun), Answer)


async def test_a_key_is_in_no_message(server: OpenAIServer) -> None:
    """Also where it is the wrong one."""
    openai = chosen(server, api_key="sk-another")
    with pytest.raises(ApplicationError) as raised:
        await openai.begin(PROMPT, "k")
    await openai._client.close()
    assert raised.value.type == ErrorKind.UNAUTHORIZED
    assert "sk-another" not in str(raised.value)


async def test_a_folder_holds_each_prompt_once(tmp_path: Path) -> None:
    """For a machine without a model; its answer says so."""
    folder = FolderSettings(directory=tmp_path / "responses").open()
    assert isinstance(folder, FolderTransport)
    for _ in range(2):
        answer = await Attempt().run(ResponseActivities(folder).create_response, PROMPT)
        assert answer.text.startswith("No model was asked")
    [file] = (tmp_path / "responses").iterdir()
    assert Prompt.model_validate_json(file.read_text()) == PROMPT


def test_settings_take_a_key_from_a_file() -> None:
    """With the newline that it often ends in."""
    assert OpenAISettings(api_key=SecretStr("sk-1\n")).api_key.get_secret_value() == "sk-1"
