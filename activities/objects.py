"""`put_object`: an object in an S3 bucket, or a file in a folder, that is written once and never replaced.

The write has a condition: S3 takes it only where no object has that name yet
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). The object carries the call's
idempotency key, so an attempt that finds its own object returns what is there, and one that finds somebody
else's fails. That is exactly once, for as long as the object is kept.
"""

import asyncio
import base64
import hashlib
import json
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, HttpUrl, StringConstraints
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import header_value, heartbeating, idempotency_key
from activities.errors import ErrorKind, provider_error
from activities.folder import Folder
from activities.settings import ApiKey, RequestTimeout, Section

_KEY = "idempotency-key"
_KEY_LIMIT = 255
_LARGEST = 1_000_000
"""Bytes of an object. What comes as an argument is recorded in the job's history; larger things are to be
made inside of an activity of one's own."""


class NewObject(BaseModel):
    """An object to be written."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=1_024)]
    """S3 calls it the key: `invoices/2026/order-7.pdf`."""
    content: Annotated[Base64Bytes, Field(max_length=_LARGEST)]
    content_type: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+/[\x20-\x7e]+$")] = "text/plain"

    @classmethod
    def of(cls, name: str, content: bytes, content_type: str = "text/plain") -> "NewObject":
        """Return an object of some bytes."""
        return cls(name=name, content=base64.b64encode(content), content_type=content_type)


class ObjectReceipt(BaseModel):
    """An object that is there: the same however often it is written with one key."""

    model_config = ConfigDict(frozen=True)

    name: str
    etag: str
    """S3's digest of it."""
    replayed: bool = False
    """Whether an earlier attempt under the same idempotency key wrote it."""


class ObjectTransport(Protocol):
    """Takes objects."""

    async def put(self, new: NewObject, idempotency_key: str) -> ObjectReceipt:
        """Write an object that carries the key.

        Raises:
            ApplicationError: It was not written, or nobody knows; the type is an `ErrorKind`.
        """
        ...


class ObjectActivities:
    """The activities of this service, over the transport that the settings choose."""

    def __init__(self, transport: ObjectTransport) -> None:
        self._transport = transport

    @activity.defn(name="put_object")
    async def put_object(self, new: NewObject) -> ObjectReceipt:
        """Write an object, once for all attempts under the call's idempotency key."""
        async with heartbeating():
            return await self._transport.put(new, idempotency_key())


class FolderTransport:
    """Writes objects into a folder, one file for each name."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._folder = Folder(directory)

    async def put(self, new: NewObject, idempotency_key: str) -> ObjectReceipt:
        """See `ObjectTransport`."""
        content = json.dumps({_KEY: idempotency_key, **new.model_dump(mode="json")})
        is_new = await self._folder.put(new.name, content)
        return ObjectReceipt(name=new.name, etag=hashlib.sha256(new.content).hexdigest(), replayed=not is_new)


class S3Transport:
    """Writes into a bucket of S3, or of a service that has its conditional writes."""

    def __init__(
        self,
        *,
        bucket: str,
        access_key_id: str | None = None,
        secret_access_key: ApiKey | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        timeout: timedelta = timedelta(seconds=20),
    ) -> None:
        """Credentials that are not given are found as the AWS tools find them.

        Raises:
            BotoCoreError: There is no region, or a profile is not there.
        """
        self._bucket = bucket
        self._secret = secret_access_key
        self._s3 = boto3.client(
            "s3",
            aws_access_key_id=access_key_id,
            aws_secret_access_key=None if secret_access_key is None else secret_access_key.get_secret_value(),
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=timeout.total_seconds(),
                read_timeout=timeout.total_seconds(),
                retries={"total_max_attempts": 1},  # Temporal retries, and its attempts are seen.
            ),
        )

    async def put(self, new: NewObject, idempotency_key: str) -> ObjectReceipt:
        """See `ObjectTransport`."""
        return await asyncio.to_thread(self._put, new, header_value(idempotency_key, limit=_KEY_LIMIT))

    def _put(self, new: NewObject, carried: str) -> ObjectReceipt:
        try:
            written = self._s3.put_object(
                Bucket=self._bucket,
                Key=new.name,
                Body=new.content,
                ContentType=new.content_type,
                Metadata={_KEY: carried},
                IfNoneMatch="*",
            )
        except ClientError as error:
            if _status(error) != HTTPStatus.PRECONDITION_FAILED:
                raise self._refusal(error) from None
        except (BotoCoreError, OSError) as error:
            raise self._refusal(error) from None
        else:
            return ObjectReceipt(name=new.name, etag=written["ETag"].strip('"'))
        return self._found(new, carried)

    def _found(self, new: NewObject, carried: str) -> ObjectReceipt:
        """Return the object that is there already, if it is the one that was to be written."""
        try:
            there = self._s3.head_object(Bucket=self._bucket, Key=new.name)
        except (ClientError, BotoCoreError, OSError) as error:
            refusal = self._refusal(error)
            if isinstance(error, ClientError) and _status(error) == HTTPStatus.NOT_FOUND:
                # Deleted in the meantime. Whether it was this call's, nobody can say.
                raise provider_error(
                    ErrorKind.IDEMPOTENCY_KEY_REUSED,
                    f"An object {new.name!r} was there, and was deleted since",
                ) from None
            raise refusal from None
        if there.get("Metadata", {}).get(_KEY) != carried:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"Bucket {self._bucket!r} holds another object {new.name!r}, which is not replaced",
            )
        return ObjectReceipt(name=new.name, etag=there.get("ETag", "").strip('"'), replayed=True)

    def _refusal(self, error: ClientError | BotoCoreError | OSError) -> ApplicationError:
        match error:
            case ClientError():
                status = _status(error)
                answered = error.response.get("Error", {})
                code = answered.get("Code", "no error code")
                kind = ErrorKind.RATE_LIMITED if code == "SlowDown" else ErrorKind.of_status(status)
                return provider_error(
                    kind,
                    f"S3 answered {status} ({code}): {answered.get('Message', '')}",
                    code=code,
                    headers=error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}),
                    secret=self._secret,
                )
            case ParamValidationError():
                return provider_error(ErrorKind.INVALID_REQUEST, f"S3's client refuses it: {error}")
            case _:
                return provider_error(ErrorKind.UNAVAILABLE, f"S3 did not answer ({type(error).__name__})")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


class FolderSettings(Section):
    """Objects stay on this machine."""

    transport: Literal["folder"] = "folder"
    directory: Path = Path("var/objects")
    """Folder that holds them; made where it is not there yet."""

    def open(self) -> FolderTransport:
        """Return the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        return FolderTransport(self.directory)


class S3Settings(Section):
    """Objects go to S3."""

    transport: Literal["s3"] = "s3"
    bucket: Annotated[str, StringConstraints(min_length=3, max_length=63)]
    """That holds them."""
    access_key_id: str | None = None
    """None: found as the AWS tools find it, with its secret."""
    secret_access_key: ApiKey | None = None
    """None: found as the AWS tools find it."""
    region: str | None = None
    """None: found as the AWS tools find it."""
    endpoint_url: HttpUrl | None = None
    """Where the service is, if not at AWS."""
    timeout: RequestTimeout = timedelta(seconds=20)
    """How long S3 may stay silent: 1 second to 5 minutes."""

    def open(self) -> S3Transport:
        """Return the transport.

        Raises:
            BotoCoreError: S3 cannot be configured.
        """
        return S3Transport(
            bucket=self.bucket,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region=self.region,
            endpoint_url=None if self.endpoint_url is None else str(self.endpoint_url),
            timeout=self.timeout,
        )


ObjectSettings = Annotated[FolderSettings | S3Settings, Field(discriminator="transport")]
