"""A Dovecot of a test's own, from Debian's `dovecot-imapd`: one user's folder of sent mail, over IMAP."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.fakes.mail_server import PASSWORD, USER
from tests.support.servers import free_port

REQUIRED = "DEDUPE_REQUIRE_DOVECOT"
"""Environment variable: with "1" a test may not be skipped for want of a server."""
_PATIENCE = 30.0
"""Seconds."""
_OWNER = "mail"
"""Who owns mail: Dovecot delivers to nobody who is root."""
_CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
first_valid_uid = 1
mail_location = maildir:~/Maildir
passdb {{
  driver = static
  args = user={user} password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={folder}/home
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class SentMail:
    """What was sent, as a mail server files it and IMAP shows it."""

    port: int
    folder: Path

    def file(self, message: bytes) -> None:
        """File a message, in one step."""
        name = uuid4().hex
        draft = self.folder / "tmp" / name
        draft.write_bytes(message)
        draft.chmod(0o644)
        draft.rename(self.folder / "new" / name)


def why_not() -> str | None:
    """Return why no server can be had; None where one can."""
    if os.getuid() != 0:
        return "Dovecot needs root, which the tests do not run as"
    return None if _program() else "Dovecot is not installed"


def _program() -> str | None:
    return shutil.which("dovecot", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def dovecot() -> Generator[SentMail]:
    """Run a server whose user `USER` has the folder `Sent`.

    Raises:
        AssertionError: It does not start.
    """
    program, port = _program(), free_port()
    assert program is not None
    folder = Path(tempfile.mkdtemp(prefix="temporal-dedupe-dovecot."))
    try:
        folder.chmod(0o755)
        sent = folder / "home/Maildir/.Sent"
        for name in ("tmp", "new", "cur"):
            (sent / name).mkdir(parents=True)
        owner = pwd.getpwnam(_OWNER)
        for each in (folder / "home", *(folder / "home").rglob("*")):
            os.chown(each, owner.pw_uid, owner.pw_gid)
        configuration = folder / "dovecot.conf"
        configuration.write_text(
            _CONFIGURATION.format(folder=folder, user=USER, password=PASSWORD, owner=_OWNER, port=port)
        )
        server = subprocess.Popen([program, "-F", "-c", configuration])
        try:
            _wait_for(port, server)
            yield SentMail(port=port, folder=sent)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        assert server.poll() is None, "Dovecot has ended"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.settimeout(_PATIENCE)
                if connection.recv(4) == b"* OK":
                    return
        except OSError:
            time.sleep(0.05)
    message = "Dovecot does not answer"
    raise AssertionError(message)
