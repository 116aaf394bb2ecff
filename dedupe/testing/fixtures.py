"""A pytest fixture of the environment, for who uses pytest-asyncio. Nothing else here needs the two."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Literal

import pytest_asyncio

from dedupe.testing.environment import DedupeEnvironment, environment


def environment_fixture(
    *,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]] = (),
    loop_scope: Literal["function", "class", "module", "package", "session"] | None = None,
    **options: Any,
) -> Callable[[], AsyncGenerator[DedupeEnvironment]]:
    """Return a fixture that runs an `environment` for each test that asks for it.

    Pytest finds it under the name it is given in a test module or in `conftest.py`:
    `dd = environment_fixture(workflows=[WelcomeJob], activities=[send_welcome])`.

    Args:
        workflows: Those of the worker.
        activities: Those of the worker.
        loop_scope: Whose event loop it runs on: that of the tests. None: as pytest-asyncio is configured.
        **options: Further ones of `environment`.
    """

    @pytest_asyncio.fixture(loop_scope=loop_scope)
    async def running() -> AsyncGenerator[DedupeEnvironment]:
        async with environment(workflows=workflows, activities=activities, **options) as running:
            yield running

    return running
