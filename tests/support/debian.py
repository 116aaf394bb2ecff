"""An image of Debian that is made here, for tests of images and compositions: nothing can be pulled."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.processes import ROOT

_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_DOCKERFILE = """\
FROM scratch
ADD rootfs.tar /
COPY programs /usr/local/bin
COPY wheels /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""
"""The packages come from where the machine's own do, the wheels are downloaded before."""


def why_no_debian() -> str | None:
    """Return why no Debian can be made here; None where one can."""
    if shutil.which("mmdebstrap") and _SOURCES.exists() and os.getuid() == 0:
        return None
    return "needs root on Debian, and mmdebstrap"


@contextmanager
def debian(engine: Any, *packages: str, programs: Sequence[str] = ()) -> Generator[str]:
    """Yield the name of an image with Debian's Python, and the wheels that the worker's lock names.

    Args:
        engine: A client of the Docker engine.
        packages: What else it has.
        programs: Paths of static programs that it has.
    """
    lines = Path("/etc/os-release").read_text().splitlines()
    [suite] = [line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME=")]
    with tempfile.TemporaryDirectory() as folder:
        include = ",".join(["python3", "python3-venv", "ca-certificates", *packages])
        make = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}"]
        subprocess.run([*make, suite, "rootfs.tar", str(_SOURCES)], cwd=folder, check=True)
        lock = ROOT / "deploy" / "requirements.lock"
        options = ["-qq", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", "wheels"]
        download = [sys.executable, "-m", "pip", "download", *options, f"--requirement={lock}"]
        subprocess.run(download, cwd=folder, check=True)
        Path(folder, "programs").mkdir()
        for program in programs:
            shutil.copy(program, Path(folder, "programs"))
        Path(folder, "Dockerfile").write_text(_DOCKERFILE)
        image, _ = engine.images.build(path=folder, tag=f"temporal-dedupe-debian:{os.getpid()}", rm=True)
    try:
        yield image.tags[0]
    finally:
        # What was built on it, and has no name: a stage, or an image that was built twice.
        nameless = [(left, left.history()) for left in engine.images.list(filters={"dangling": True})]
        for left, layers in sorted(nameless, key=lambda each: len(each[1]), reverse=True):
            if any(layer["Id"] == image.id for layer in layers):
                engine.images.remove(left.id)
        engine.images.remove(image.id)
