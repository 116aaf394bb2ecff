"""Jobs and keys go on where an older version left them: every recorded history replays."""

import re
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from dedupe import DedupePlugin
from tests.replay.corpus import DIVERGED, HISTORIES, load
from tests.replay.shapes import BOTH, REAL, SEARCHED
from tests.support.scripts import OtherScript, Script

RECORDED = sorted(HISTORIES.glob("*.json"))
ALTERED = sorted(DIVERGED.glob("*.json"))


def replayer() -> Replayer:
    """Return a replayer as users make it: their jobs, and the plugin."""
    return Replayer(
        workflows=[Script, OtherScript],
        data_converter=pydantic_data_converter,
        plugins=[DedupePlugin(organization="acme", project="web")],
    )


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    """What an older version of jobs and keys did is what this version would do."""
    await replayer().replay_workflow(load(path))


@pytest.mark.parametrize("path", ALTERED, ids=lambda path: path.stem)
async def test_a_diverged_history_does_not_replay(path: Path) -> None:
    """A history that other code wrote is told from one of ours: the corpus can fail."""
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(load(path))


def test_no_corpus_is_empty() -> None:
    """Both corpora hold jobs and keys, and every shape is recorded."""
    names = {path.name for path in RECORDED}
    for server, shapes in (("real", REAL), ("skipping", BOTH)):
        for shape in shapes:
            assert f"{shape.__name__}.{server}.job-0.json" in names
            # In place a key's workflow runs only to end.
            assert server == "real" or f"{shape.__name__}.{server}.key.json" in names
    for shape in SEARCHED:
        for server in ("real", "delegated"):
            assert f"{shape.__name__}.{server}.key.json" in names
    assert {"run_out.real.key.json", "cancelled_by_an_operator.real.key.json"} <= names
    altered = [path.name for path in ALTERED]
    for part in (".job-", ".key.", ".type.", ".id.", ".timer-for-marker."):
        assert sum(part in name for name in altered) >= 8
    assert sum(".timer-for-search-attribute." in name for name in altered) == 2


def test_the_corpus_names_no_machine() -> None:
    """Recorded histories hold no names of processes and machines."""
    for path in RECORDED:
        assert not re.search(r"\d@\w", path.read_text())
