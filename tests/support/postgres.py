"""A PostgreSQL server of a test session's own, from the binaries that the system has."""

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
from pathlib import Path

REQUIRED = "DEDUPE_REQUIRE_POSTGRES"
"""Environment variable: with "1" a test may not be skipped for want of a server."""
_DEBIAN = "/usr/lib/postgresql"
_PATIENCE = 30.0
"""Seconds."""


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return next(iter(sorted(Path(_DEBIAN).glob("*/bin"), reverse=True)), None)


@contextmanager
def postgres() -> Generator[str]:
    """Run a server, and yield its URL. It refuses to run as root, and does as the user `postgres` then.

    Raises:
        AssertionError: It does not start.
    """
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="temporal-dedupe-postgres."))
    user, group = None, None
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user, group = owner.pw_uid, owner.pw_gid
    data, port = folder / "data", _free_port()
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "tests", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=group,
        )
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "127.0.0.1", "-p", str(port), "-F"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            user=user,
            group=group,
        )
        try:
            _wait_for(port, server)
            yield f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # it waits for no client then
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        assert server.poll() is None, "PostgreSQL has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    message = "PostgreSQL does not answer"
    raise AssertionError(message)
