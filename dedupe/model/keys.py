"""Keys: what makes two calls the same call.

A deduplication key means something only inside its scope. `Keyspace` holds the settings of one project
and turns a key into a `ScopedKey`; `ScopedKey.format` is the id of the workflow that executes, locks and
records the key. Invariant: no two scoped keys share an id, whatever characters their parts hold.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, unquote

from dedupe.errors import InvalidDeduplicationKeyError, InvalidKeyspaceError

MAX_KEY_LENGTH = 2_048
"""Longest key a call may give, in characters."""

MAX_ID_LENGTH = 255
"""Longest workflow id, in bytes: what many SQL set-ups of a Temporal service store."""

SHORTENED_HEAD = MAX_ID_LENGTH - 65
"""Bytes that are left of an id too long, in front of `~` and a SHA-256 in hex."""

_SHORTENED = "~"
_KEY_SAFE = ":/@+=,"
_OWNER_SAFE = "@+=,"


class Scope(StrEnum):
    """How far a key reaches: organization > project > job."""

    PROJECT = "project"
    """All jobs of the project share the key."""
    JOB = "job"
    """Only runs of the same job (workflow type) share the key."""
    ORGANIZATION = "organization"
    """All projects of the organization share the key."""


_PREFIX = {Scope.ORGANIZATION: "org", Scope.PROJECT: "proj", Scope.JOB: "job"}
_SCOPE = {prefix: scope for scope, prefix in _PREFIX.items()}


@dataclass(frozen=True, kw_only=True)
class ScopedKey:
    """A key together with all that it is unique within."""

    scope: Scope
    owner: tuple[str, ...]
    """Who the scope belongs to: (organization), (organization, project) or (organization, project, job)."""
    key: str

    def format(self) -> str:
        """Return the id of the key's workflow: printable ASCII, at most `MAX_ID_LENGTH` bytes.

        Segments are percent-encoded. An id that would be longer keeps its readable head and ends in `~` and
        the SHA-256 of the whole; `~` stands nowhere else.
        """
        whole = prefix_of(self.scope, self.owner, key_prefix=self.key)
        if len(whole) <= MAX_ID_LENGTH:
            return whole
        digest = hashlib.sha256(whole.encode("ascii")).hexdigest()
        return f"{whole[:SHORTENED_HEAD]}{_SHORTENED}{digest}"

    @classmethod
    def parse(cls, workflow_id: str) -> "ScopedKey":
        """Read back what `format` wrote: `parse(format(k)) == k` for every id that was not shortened.

        A shortened id gives the head of the key with its digest, as it stands in the id.

        Raises:
            ValueError: The id was not made by `format`.
        """
        prefix, _, rest = workflow_id.partition(":")
        owner, separator, key = rest.partition(":")
        scope = _SCOPE.get(prefix)
        if scope is None or not (separator or _SHORTENED in owner):
            msg = f"not the workflow id of a deduplication key: {workflow_id!r}"
            raise ValueError(msg)
        return cls(
            scope=scope,
            owner=tuple(unquote(segment) for segment in owner.split("/")),
            key=key if _SHORTENED in key else unquote(key),
        )


def prefix_of(scope: Scope, owner: tuple[str, ...], *, key_prefix: str = "") -> str:
    """Return what the ids of all keys of one scope begin with, that begin with `key_prefix`."""
    owned = "/".join(_encode(segment, safe=_OWNER_SAFE) for segment in owner)
    return f"{_PREFIX[scope]}:{owned}:{_encode(key_prefix, safe=_KEY_SAFE)}"


@dataclass(frozen=True, kw_only=True)
class Keyspace:
    """The organization and project whose keys these are, and the secret that hides the keys, if any."""

    organization: str
    project: str
    key_secret: bytes | None = field(default=None, repr=False)
    """Keys are replaced by their HMAC-SHA256 under this secret, in hex."""

    def __post_init__(self) -> None:
        """Refuse names and secrets that could not tell keys apart.

        Raises:
            InvalidKeyspaceError: A name is empty or not text, or the secret is empty.
        """
        for setting, name in (("organization", self.organization), ("project", self.project)):
            if not name or not _is_text(name):
                raise InvalidKeyspaceError(field=setting)
        if self.key_secret is not None and not self.key_secret:
            raise InvalidKeyspaceError(field="key_secret")

    def scoped(self, key: object, *, scope: Scope, job: str | None = None) -> ScopedKey:
        """Return `key` inside `scope`.

        Args:
            key: The key a call gave.
            scope: How far it reaches.
            job: The workflow type; needed where the scope is `Scope.JOB`.

        Raises:
            InvalidDeduplicationKeyError: The key is not a string of 1 to `MAX_KEY_LENGTH` characters that
                UTF-8 can encode, or holds NUL; or its scope is not valid, or lacks the job.
        """
        text = self._checked(key)
        if self.key_secret is not None:
            text = hmac.new(self.key_secret, text.encode(), hashlib.sha256).hexdigest()
        return ScopedKey(scope=scope, owner=self.owner(scope, job=job), key=text)

    def owner(self, scope: Scope, *, job: str | None = None) -> tuple[str, ...]:
        """Return the names that a key of `scope` is unique within.

        Raises:
            InvalidDeduplicationKeyError: The scope is not valid, or is `Scope.JOB` and no job is given.
        """
        match scope:
            case Scope.ORGANIZATION:
                return (self.organization,)
            case Scope.PROJECT:
                return (self.organization, self.project)
            case Scope.JOB if job:
                return (self.organization, self.project, job)
            case Scope.JOB:
                raise InvalidDeduplicationKeyError(
                    reason="a key of Scope.JOB needs the workflow type of the job. Give job=..."
                )
            case _:  # a caller without a type checker
                raise InvalidDeduplicationKeyError(
                    reason=f"{scope!r} is not a scope. Give Scope.PROJECT, Scope.JOB or Scope.ORGANIZATION"
                )

    def _checked(self, key: object) -> str:
        """Return the key when it can be one. Messages show it only where it needs no hiding."""
        if not isinstance(key, str):
            raise _invalid(f"it is of type {type(key).__name__}")
        shown = repr(key[:80]) if self.key_secret is None else "the key"
        if not key:
            raise _invalid("it is empty")
        if len(key) > MAX_KEY_LENGTH:
            raise _invalid(f"{shown}… has {len(key):,} characters")
        if "\0" in key:
            raise _invalid(f"{shown} holds a NUL character")
        if not _is_text(key):
            raise _invalid(f"{shown} holds a lone surrogate, which is not text")
        return key


def _invalid(reason: str) -> InvalidDeduplicationKeyError:
    advice = f"Give a string of 1 to {MAX_KEY_LENGTH:,} characters without NUL"
    return InvalidDeduplicationKeyError(reason=f'{reason}. {advice}, such as f"welcome-email-{{user.id}}"')


def _encode(segment: str, *, safe: str) -> str:
    return quote(segment, safe=safe).replace(_SHORTENED, "%7E")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
