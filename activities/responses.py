"""`create_response`: a model's answer, from OpenAI's Responses API; by default the prompt goes into a folder.

OpenAI takes no idempotency key, and lists no responses. So a response is made in the background: its id comes
at once, the attempt heartbeats it, and then asks until the answer is there. An attempt that follows one which
died goes on with that response. It asks the model again, and is billed again, only where the one before died
between request and heartbeat. What may not even be billed twice holds what nobody knows; a person then looks
into OpenAI's logs, where each response carries the idempotency key as metadata:

    on_unknown="hold"
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol

import openai
from annotated_types import Ge
from openai import AsyncOpenAI
from openai.types.responses import Response
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.folder import Folder
from activities.settings import ApiKey, RequestTimeout, Section

IDEMPOTENCY_KEY = "idempotency_key"
"""The name in a response's metadata."""
_METADATA_LIMIT = 512
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
"""Seconds from one look at a response to the next."""
_UNDER_WAY = {"queued", "in_progress"}

Model = Annotated[str, StringConstraints(min_length=1)]


class Prompt(BaseModel):
    """What a model is asked."""

    model_config = ConfigDict(frozen=True)

    model: Model
    """Its name at the provider."""
    text: Annotated[str, StringConstraints(min_length=1)]
    instructions: str | None = None
    """How it is to answer."""
    max_output_tokens: Annotated[int, Ge(16)] | None = None
    """How long the answer may be, with what the model thinks before it."""


class Answer(BaseModel):
    """What a model said."""

    model_config = ConfigDict(frozen=True)

    response_id: str
    """The provider's id of it."""
    text: str
    cut_off: str | None = None
    """Why the answer is not whole, in the provider's word, such as `max_output_tokens`."""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A response that came to nothing."""

    kind: ErrorKind
    code: str
    """The provider's."""
    said: str


class ResponseTransport(Protocol):
    """Asks models."""

    async def begin(self, prompt: Prompt, idempotency_key: str) -> str:
        """Ask, and return the id of the response.

        Raises:
            ApplicationError: It was not taken, or nobody knows; the type is an `ErrorKind`.
        """
        ...

    async def wait(self, response_id: str) -> Answer | Failure:
        """Wait until a response has ended.

        Raises:
            ApplicationError: The provider cannot be asked; the type is an `ErrorKind`.
        """
        ...


class ResponseActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: ResponseTransport) -> None:
        self._transport = transport

    @activity.defn(name="create_response")
    async def create_response(self, prompt: Prompt) -> Answer:
        """Ask a model, or go on with what an attempt before this one has asked."""
        for begun in activity.info().heartbeat_details[:1]:
            outcome = await self._wait(str(begun))
            if isinstance(outcome, Answer):
                return outcome
        # No heartbeat before the one with the id: those that follow are held back for a while.
        outcome = await self._wait(await self._transport.begin(prompt, idempotency_key()))
        if isinstance(outcome, Answer):
            return outcome
        raise provider_error(outcome.kind, outcome.said, code=outcome.code)

    async def _wait(self, response_id: str) -> Answer | Failure:
        activity.heartbeat(response_id)
        async with heartbeating(response_id):
            return await self._transport.wait(response_id)


class FolderTransport:
    """Writes prompts into a folder, one file for each key, and asks no model."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def begin(self, prompt: Prompt, idempotency_key: str) -> str:
        """See `ResponseTransport`."""
        await self._folder.put(idempotency_key, prompt.model_dump_json())
        return idempotency_key

    async def wait(self, response_id: str) -> Answer | Failure:
        """See `ResponseTransport`."""
        return Answer(response_id=response_id, text="No model was asked: the prompt went into a folder.")


class OpenAITransport:
    """Asks OpenAI (https://platform.openai.com/docs/api-reference/responses)."""

    def __init__(
        self,
        *,
        api_key: ApiKey,
        base_url: str = "https://api.openai.com/v1",
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        self._api_key = api_key
        self._client = AsyncOpenAI(
            api_key=api_key.get_secret_value(),
            base_url=base_url,
            timeout=timeout.total_seconds(),
            max_retries=0,  # Temporal retries, and its attempts are seen.
        )

    async def begin(self, prompt: Prompt, idempotency_key: str) -> str:
        """See `ResponseTransport`."""
        try:
            response = await self._client.responses.create(
                model=prompt.model,
                input=prompt.text,
                instructions=prompt.instructions,
                max_output_tokens=prompt.max_output_tokens,
                metadata={IDEMPOTENCY_KEY: header_value(idempotency_key, limit=_METADATA_LIMIT)},
                background=True,
                store=True,  # otherwise it is gone after ten minutes
            )
        except openai.APIError as error:
            raise self._refusal(error, ErrorKind.UNKNOWN) from None
        return response.id

    async def wait(self, response_id: str) -> Answer | Failure:
        """See `ResponseTransport`."""
        pause = _FIRST_PAUSE
        while True:
            try:
                response = await self._client.responses.retrieve(response_id)
            except openai.NotFoundError as error:
                return Failure(kind=ErrorKind.UNAVAILABLE, code="not_found", said=_said(error))
            except openai.APIError as error:
                raise self._refusal(error, ErrorKind.UNAVAILABLE) from None
            if response.status not in _UNDER_WAY:
                return _outcome(response)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _refusal(self, error: openai.APIError, perhaps: ErrorKind) -> ApplicationError:
        if not isinstance(error, openai.APIStatusError):
            return provider_error(perhaps, f"OpenAI did not answer ({type(error).__name__})")
        kind = ErrorKind.of_status(error.status_code)
        return provider_error(
            perhaps if kind is ErrorKind.UNAVAILABLE else kind,
            _said(error),
            code=error.code,
            headers=error.response.headers,
            secret=self._api_key,
        )


def _said(error: openai.APIStatusError) -> str:
    return f"OpenAI answered {error.status_code} ({error.code}): {error.message}"


def _outcome(response: Response) -> Answer | Failure:
    if response.status in {"completed", "incomplete"}:
        details, usage = response.incomplete_details, response.usage
        return Answer(
            response_id=response.id,
            text=response.output_text,
            cut_off=None if details is None else details.reason,
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
        )
    if response.error is None:
        said = f"OpenAI's response {response.id} was {response.status}"
        return Failure(kind=ErrorKind.INVALID_REQUEST, code=str(response.status), said=said)
    match response.error.code:
        case "server_error" | "vector_store_timeout":
            kind = ErrorKind.UNAVAILABLE
        case "rate_limit_exceeded":
            kind = ErrorKind.RATE_LIMITED
        case _:
            kind = ErrorKind.INVALID_REQUEST
    said = f"OpenAI's response {response.id} failed: {response.error.message}"
    return Failure(kind=kind, code=response.error.code, said=said)


class FolderSettings(Section):
    """Prompts stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/responses")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class OpenAISettings(Section):
    """Prompts go to OpenAI."""

    transport: Literal["openai"] = "openai"
    api_key: ApiKey
    """Of a project that may keep what it is answered: not one with zero data retention."""
    base_url: HttpUrl = HttpUrl("https://api.openai.com/v1")
    """Where OpenAI is."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long OpenAI may stay silent: 1 second to 5 minutes."""

    def open(self) -> OpenAITransport:
        """Return the transport."""
        return OpenAITransport(api_key=self.api_key, base_url=str(self.base_url), timeout=self.timeout)


ResponseSettings = Annotated[FolderSettings | OpenAISettings, Field(discriminator="transport")]
