"""Dashboard and alerts: held to Prometheus, and to what a worker really counts."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError

from activities.slack import SlackMessage
from dedupe import DedupeClient
from tests.integration.processes import ROOT, Process
from tests.integration.test_worker_operation import address, result_of
from tests.integration.worker_command import welcome, worker
from tests.support.waiting import LONG, until

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
REQUIRED = "DEDUPE_REQUIRE_PROMETHEUS"
VARIABLES = {"$namespace": ".*", "$task_queue": ".*", "$__rate_interval": "1m"}


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    if shutil.which("promtool") is not None and shutil.which("prometheus") is not None:
        return
    if os.environ.get(REQUIRED) == "1":
        pytest.fail("Prometheus is not installed")
    pytest.skip("Prometheus is not installed")


def expressions() -> dict[str, str]:
    """Return the expressions of all panels, by their titles."""
    found: dict[str, str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found[panel["title"]] = expression
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
        ("check", "config", "prometheus.yaml"),
    ],
)
def test_the_alerts_fire_when_they_are_to(arguments: tuple[str, ...]) -> None:
    """By Prometheus's own tool."""
    done = subprocess.run(
        [shutil.which("promtool") or "", *arguments],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A Prometheus that answers."""

    def __init__(self, url: str) -> None:
        """Ask it there."""
        self._url = url

    async def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer."""
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{self._url}/api/v1/{path}", params=query)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncGenerator[Prometheus]:
    """Run a Prometheus that collects from a worker, with the alerts."""
    listen = address()
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": "worker", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    command = [
        shutil.which("prometheus") or sys.exit(1),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={listen}",
    ]
    process = Process(command, log=folder / "prometheus.log")
    try:
        await process.says("Server is ready")
        yield Prometheus(f"http://{listen}")
    finally:
        process.kill()


async def test_a_worker_has_all_that_is_looked_at(
    settings: dict[str, str], running_server: str, tmp_path: Path
) -> None:
    """Every metric that dashboard and alerts name is there, and an execution that is held is alerted on."""
    settings |= {
        "WORKER_METRICS_ADDRESS": (metrics := address()),
        "WORKER_SLACK__TRANSPORT": "slack",
        "WORKER_SLACK__TOKEN": "xoxb-tests",
        "WORKER_SLACK__BASE_URL": "http://127.0.0.1:9",
    }
    async with worker(settings, running_server), prometheus(tmp_path, metrics) as server:
        for _ in range(2):
            await result_of(await welcome(running_server, settings))
        client = await Client.connect(running_server, data_converter=pydantic_data_converter)
        with pytest.raises(ActivityError):
            await DedupeClient(client, task_queue=settings["WORKER_TASK_QUEUE"]).execute_activity(
                "post_message",
                SlackMessage(channel="C024BE91L", text="Nobody answers."),
                deduplication_key="note-7",
                on_unknown="hold",
                start_to_close_timeout=timedelta(seconds=5),
                schedule_to_close_timeout=timedelta(seconds=3),
            )

        async def is_alerted() -> bool:
            alerts = (await server.ask("alerts"))["alerts"]
            return any(alert["labels"]["alertname"] == "DedupeKeyHeld" for alert in alerts)

        await until(is_alerted, within=LONG, what="the alert")
        there = set(await server.ask("label/__name__/values"))
        rules = (await server.ask("rules"))["groups"][0]["rules"]
        looked_at = {**expressions(), **{rule["name"]: rule["query"] for rule in rules}}
        for title, expression in looked_at.items():
            named = set(re.findall(r"\b(?:dedupe|temporal)_[a-z_]+", expression))
            assert named
            assert named <= there | {"temporal_activity_execution_failed"}, title
            await server.ask("query", query=expression)

        async def are_shown() -> bool:  # a rate takes two samples
            titles = ("Calls by answer", "Calls that executed nothing", "Latency, 95th percentile")
            found = [(await server.ask("query", query=expressions()[title]))["result"] for title in titles]
            return all(found)

        await until(are_shown, within=LONG, what="the panels")
