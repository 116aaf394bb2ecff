"""Each integration while its workers are killed: no effect happens twice, and none is lost."""

import os
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.integration.integrations import INTEGRATIONS, Integration, kill
from tests.support import dovecot, postgres

pytestmark = [pytest.mark.torture, pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.mark.parametrize("integration", INTEGRATIONS, ids=lambda each: each.name)
async def test_each_effect_happens_once(
    real_client: Client, tmp_path: Path, integration: Integration
) -> None:
    """`python -m tests.integration.integrations` does the same, with hundreds of kills."""
    if "PostgreSQL" in integration.name and postgres.binaries() is None:
        assert os.environ.get(postgres.REQUIRED) != "1"
        pytest.skip("PostgreSQL is not installed")
    if "folder" in integration.name and (reason := dovecot.why_not()) is not None:
        assert os.environ.get(dovecot.REQUIRED) != "1"
        pytest.skip(reason)
    row = await kill(integration, real_client, kills=4, folder=tmp_path)
    assert (row.most, row.missing) == (1, 0)
    assert row.effects == row.keys > 0
