"""A receiver of signed events: it takes each once, and refuses what is not signed, as specified.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"only for tests, of course").decode()


class Receiver(ThreadingHTTPServer):
    """The receiver; as a context manager it serves on a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, delay: timedelta = timedelta(0)) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: dict[str, Any] = {}
        """Events by their ids."""
        self.requests: list[dict[str, str]] = []
        """Their headers."""
        self.answers: list[tuple[int | None, dict[str, str]]] = []
        """How the next requests are answered, after the event was taken; None: not at all."""
        self.delay = delay
        """Before an event is taken, and again before the answer."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/hooks"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.requests.append(headers)
        try:
            Webhook(SECRET).verify(body, headers)
        except Exception:  # noqa: BLE001 - whatever is wrong with it
            self._answer(401, {})
            return
        time.sleep(receiver.delay.total_seconds())
        receiver.taken.setdefault(headers["webhook-id"], json.loads(body))
        time.sleep(receiver.delay.total_seconds())
        status, more = receiver.answers.pop(0) if receiver.answers else (204, {})
        if status is not None:
            self._answer(status, more)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()
        except ConnectionError:  # who sent it was killed
            self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""
