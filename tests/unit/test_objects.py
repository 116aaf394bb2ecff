"""`put_object`: AWS's own SDK against a local S3 that has its conditional writes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.objects import (
    FolderSettings,
    FolderTransport,
    NewObject,
    S3Settings,
    S3Transport,
)
from tests.fakes.ledger import Answer
from tests.fakes.provider import Drop, KeylessProvider, Refuse, Request

BUCKET = "invoices"
INVOICE = NewObject.of("2026/order-7.txt", b"10.99 EUR")
SECRET = "a-secret-key-of-tests"  # noqa: S105 - it opens nothing


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 of this module's own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str) -> Any:
    """A client of it, and an empty bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="tests",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=BUCKET)
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=each.get("Key", ""))
    return client


def transport(endpoint: str, bucket: str = BUCKET) -> S3Transport:
    """Return a transport to the server at this address."""
    return S3Transport(
        bucket=bucket,
        access_key_id="tests",
        secret_access_key=SecretStr(SECRET),
        region="us-east-1",
        endpoint_url=endpoint,
        timeout=timedelta(seconds=1),
    )


async def test_an_object_is_written_once(endpoint: str, s3: Any) -> None:
    """An attempt that is repeated gets what is there, with the same receipt."""
    first = await transport(endpoint).put(INVOICE, "k")
    again = await transport(endpoint).put(INVOICE, "k")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.model_copy(update={"replayed": False}) == first
    there = s3.get_object(Bucket=BUCKET, Key=INVOICE.name)
    assert there["Body"].read() == b"10.99 EUR"
    assert there["Metadata"] == {"idempotency-key": "k"}


async def test_an_object_is_never_replaced(endpoint: str, s3: Any) -> None:
    """Another key's object stays, and the error is no definite one: it may be this one's effect."""
    await transport(endpoint).put(INVOICE, "k")
    with pytest.raises(ApplicationError, match="holds another object") as raised:
        await transport(endpoint).put(NewObject.of(INVOICE.name, b"0 EUR"), "other")
    assert (raised.value.type, raised.value.non_retryable) == (ErrorKind.IDEMPOTENCY_KEY_REUSED, False)
    assert s3.get_object(Bucket=BUCKET, Key=INVOICE.name)["Body"].read() == b"10.99 EUR"


async def test_a_bucket_that_is_not_there(endpoint: str) -> None:
    """It can never work, and the secret is in no message."""
    with pytest.raises(ApplicationError, match="NoSuchBucket") as raised:
        await transport(endpoint, "elsewhere").put(INVOICE, "k")
    assert (raised.value.type, raised.value.non_retryable) == (ErrorKind.INVALID_REQUEST, True)
    assert SECRET not in str(raised.value)


class Broken(KeylessProvider):
    """A service that answers as it is told to."""

    def check(self, request: Request) -> Answer | None:
        """See `Provider`."""
        return None

    def carry_out(self, request: Request) -> tuple[Answer, dict[str, str] | None]:
        """See `Provider`."""
        return Answer(status=200, body="", headers={"ETag": '"x"'}), {"path": request.path}


def _error(status: int, code: str) -> Refuse:
    page = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    return Refuse(Answer(status=status, body=page, headers={"Retry-After": "3"}))


@pytest.mark.parametrize(
    ("fault", "kind", "definite"),
    [
        (_error(503, "SlowDown"), ErrorKind.RATE_LIMITED, False),
        (_error(500, "InternalError"), ErrorKind.UNAVAILABLE, False),
        (_error(409, "ConditionalRequestConflict"), ErrorKind.IN_PROGRESS, False),
        (_error(403, "AccessDenied"), ErrorKind.UNAUTHORIZED, True),
        (Drop(after_effect=True), ErrorKind.UNAVAILABLE, False),
    ],
)
async def test_what_an_answer_means(
    tmp_path: Path, fault: Refuse | Drop, kind: ErrorKind, *, definite: bool
) -> None:
    """Each attempt is one request: Temporal retries."""
    with Broken(ledger=tmp_path / "s3.sqlite3", api_key="") as server:
        server.inject(fault)
        with pytest.raises(ApplicationError) as raised:
            await transport(server.url).put(INVOICE, "k")
        assert (raised.value.type, raised.value.non_retryable) == (kind, definite)
        assert len(server.requests) == 1
        assert server.requests[0].headers["if-none-match"] == "*"


async def test_a_folder_holds_each_object_once(tmp_path: Path) -> None:
    """For a machine without S3."""
    folder = FolderSettings(directory=tmp_path / "objects").open()
    assert isinstance(folder, FolderTransport)
    first, again = await folder.put(INVOICE, "k"), await folder.put(INVOICE, "k")
    assert (first.replayed, again.replayed) == (False, True)
    with pytest.raises(ApplicationError, match="something else"):
        await folder.put(INVOICE, "other")


def test_settings_choose_the_transport(endpoint: str, s3: Any) -> None:
    """And what is not given is found as the AWS tools find it."""
    settings = S3Settings.model_validate({"bucket": BUCKET, "region": "us-east-1", "endpoint_url": endpoint})
    assert isinstance(settings.open(), S3Transport)
    with pytest.raises(ClientError):
        s3.head_object(Bucket=BUCKET, Key="nothing")
