"""What the local providers share: a server on loopback that honours idempotency keys, and can be told not to.

A request passes, in this order: the injected fault, if it is a `Refuse`; the provider's own checks (API key,
route, fields); the idempotency layer (in progress, kept answer, other contents); the pause and the delay; the
effect, written together with the kept answer; the delay before the answer. Only one request per key gets past
the idempotency layer; with `honours_keys=False` all of them do.
"""

import argparse
import hashlib
import json
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.fakes.ledger import Answer, Effect, Kept, Ledger

LOOPBACK = "127.0.0.1"
NOTHING = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        return self.headers.get("idempotency-key")

    @property
    def fingerprint(self) -> str:
        """What must be the same where the key is."""
        return hashlib.sha256(f"{self.method} {self.path}\n".encode() + self.body).hexdigest()


@dataclass(frozen=True)
class Refuse:
    """Answer at once, as a rate limiter or a broken proxy does: no effect, nothing kept."""

    answer: Answer


@dataclass(frozen=True)
class Fail:
    """Begin to carry the request out and then answer this: no effect, but kept as any answer is."""

    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Close the connection without an answer, before the effect or after it."""

    after_effect: bool


Fault = Refuse | Fail | Drop


class Provider(ABC, ThreadingHTTPServer):
    """A provider; as a context manager it serves on a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        *,
        ledger: Path,
        api_key: str,
        port: int = 0,
        honours_keys: bool = True,
        keeps_answers: timedelta = timedelta(hours=24),
        delay: timedelta = NOTHING,
        answer_delay: timedelta = NOTHING,
    ) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.ledger = Ledger(ledger)
        self.requests: list[Request] = []
        self.arrived = threading.Semaphore(0)
        """Released by each request that has passed the idempotency layer and is about to have its effect."""
        self._api_key = api_key
        self._honours_keys = honours_keys
        self._keeps_answers = keeps_answers
        self._delay = delay
        self._answer_delay = answer_delay
        self._faults: deque[Fault] = deque()
        self._running: set[str] = set()
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._gate = threading.Event()
        self._gate.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._gate.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.server_address[1]}"

    @property
    def effects(self) -> list[Effect]:
        """Everything it did."""
        return self.ledger.effects()

    def inject(self, *faults: Fault) -> None:
        """Let the next requests go wrong, one fault for each."""
        with self._mutex:
            self._faults.extend(faults)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Hold every request just before its effect until the block ends; `arrived` tells of each."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def handle(self, request: Request) -> Answer | None:
        """Return the answer; None stands for a connection that is closed without one."""
        with self._mutex:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else None
        if isinstance(fault, Refuse):
            return fault.answer
        refused = self.check(request)
        if refused is not None:
            return refused
        key = request.key if self._honours_keys else None
        if key is None:
            return self._carry_out(request, fault, keep_for=None)
        with self._mutex:
            if key in self._running:
                return self.in_progress(key)
            kept = self.ledger.kept(key, within=self._keeps_answers)
            if kept is None:
                self._running.add(key)
        if kept is not None:
            return self.replay(kept.answer) if kept.fingerprint == request.fingerprint else self.mismatch(key)
        try:
            return self._carry_out(request, fault, keep_for=key)
        finally:
            with self._mutex:
                self._running.discard(key)

    def _carry_out(self, request: Request, fault: Fault | None, *, keep_for: str | None) -> Answer | None:
        self.arrived.release()
        self._gate.wait()
        self._closing.wait(self._delay.total_seconds())
        if fault == Drop(after_effect=False):
            return None
        answer, effect = (fault.answer, None) if isinstance(fault, Fail) else self.carry_out(request)
        kept = keep_for is not None and self.keeps(answer)
        keep = Kept(fingerprint=request.fingerprint, answer=answer) if kept else None
        self.ledger.write(request.key, effect=effect, keep=keep)
        self._closing.wait(self._answer_delay.total_seconds())
        return None if fault == Drop(after_effect=True) else answer

    @abstractmethod
    def check(self, request: Request) -> Answer | None:
        """Return why the request is not begun, and nothing is kept for its key; None: it is begun."""

    @abstractmethod
    def carry_out(self, request: Request) -> tuple[Answer, Mapping[str, str] | None]:
        """Return the answer, and what to write into the ledger, if there is an effect."""

    @abstractmethod
    def keeps(self, answer: Answer) -> bool:
        """Whether the answer is kept for the key."""

    @abstractmethod
    def in_progress(self, key: str) -> Answer:
        """Return the answer to a key whose first request is not answered yet."""

    @abstractmethod
    def mismatch(self, key: str) -> Answer:
        """Return the answer to a key whose first request was another one."""

    @abstractmethod
    def replay(self, answer: Answer) -> Answer:
        """Return a kept answer as it goes out again."""


class KeylessProvider(Provider, ABC):
    """A provider that takes no idempotency keys: every request that passes its checks has its effect."""

    def keeps(self, answer: Answer) -> bool:
        """See `Provider`: nothing."""
        return False

    def in_progress(self, key: str) -> Answer:
        """See `Provider`. There are no keys."""
        raise AssertionError(key)

    def mismatch(self, key: str) -> Answer:
        """See `Provider`. There are no keys."""
        raise AssertionError(key)

    def replay(self, answer: Answer) -> Answer:
        """See `Provider`. There are no keys."""
        raise AssertionError(answer)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # A client that was killed is no error here.
        with suppress(ConnectionError):
            self._respond()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def _respond(self) -> None:
        provider = self.server
        assert isinstance(provider, Provider)
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method=self.command, path=self.path, headers=headers, body=body)
        answer = provider.handle(request)
        if answer is None:
            return
        page = isinstance(answer.body, str)
        content = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/html" if page else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def main(provider: type[Provider], *, api_key: str) -> None:
    """Serve until killed; print the address, once it can be reached."""
    parser = argparse.ArgumentParser(description=provider.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any that is free")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file of effects and kept answers")
    parser.add_argument("--api-key", default=api_key)
    parser.add_argument("--ignore-idempotency", action="store_true", help="every request has its effect")
    parser.add_argument("--delay", type=float, default=0, metavar="S", help="seconds before the effect")
    parser.add_argument(
        "--answer-delay", type=float, default=0, metavar="S", help="seconds between effect and answer"
    )
    options = parser.parse_args()
    server = provider(
        ledger=options.ledger,
        port=options.port,
        api_key=options.api_key,
        honours_keys=not options.ignore_idempotency,
        delay=timedelta(seconds=options.delay),
        answer_delay=timedelta(seconds=options.answer_delay),
    )
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    server.serve_forever()
