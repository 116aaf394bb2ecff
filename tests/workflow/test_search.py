"""Search attributes: the service finds keys by name and activity, and those that need somebody."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from dedupe import DedupeKeys, DedupePlugin, Happened, KeyState, UnknownOutcomeError
from dedupe.record.search import KEY, missing, register
from tests.support.ground import Ground, Grounds
from tests.support.histories import types
from tests.support.scripts import Call, returned
from tests.support.servers import new_namespace, with_plugins
from tests.support.waiting import until

DECLINED = ApplicationError("no funds", type="Declined", non_retryable=True)
HELD = Call(key="held", on_unknown="hold", attempts=5, start_to_close_timeout=timedelta(seconds=1))


@pytest.fixture(params=[True, False], ids=["in-place", "delegated"])
async def searched(request: pytest.FixtureRequest, real_grounds: Grounds) -> Ground:
    """A ground whose keys have search attributes."""
    ground = real_grounds(search_attributes=True, in_place=request.param)
    await registered(ground.server)
    return ground


async def registered(server: Client) -> None:
    """Have the search attributes in a client's namespace."""
    if absent := await missing(server):
        await register(server, absent)

    async def are_there() -> bool:
        return not await missing(server)

    await until(are_there, what="the registration")


async def found(ground: Ground, query: str) -> Sequence[str]:
    """Return the ids of this ground's open keys that a query finds."""
    ours = f"WorkflowId STARTS_WITH '{ground.key_id('k').removesuffix('k')}' AND ExecutionStatus = 'Running'"
    return sorted([each.id async for each in ground.server.list_workflows(f"{ours} AND {query}")])


async def finds(ground: Ground, query: str, *keys: str) -> None:
    """Wait until a query finds these keys, and no others."""
    wanted = sorted(map(ground.key_id, keys))

    async def are_found() -> bool:
        return await found(ground, query) == wanted

    await until(are_found, what=f"{query} finding {keys}")


async def test_what_failed_is_found(searched: Ground) -> None:
    """By its state, until it was executed again; by key and activity all the same."""
    ground = searched
    ground.effects.then(DECLINED)
    async with ground.worker():
        assert (await ground.call(Call(key="it's \\"))).type == "Declined"
        assert await ground.call(Call(key="other")) == returned("argument")
        await finds(ground, "DedupeState = 'failed'", "it's \\")
        await finds(ground, "DedupeKey = 'other'", "other")
        await finds(ground, "DedupeActivity = 'effect'", "it's \\", "other")
        await finds(ground, "DedupeState IS NULL", "other")
        assert await ground.call(Call(key="it's \\")) == returned("argument")
        await finds(ground, "DedupeState IS NULL", "it's \\", "other")


async def test_what_is_held_is_found(searched: Ground) -> None:
    """Until somebody says what happened."""
    ground = searched
    ground.effects.then(UnknownOutcomeError("no answer from the provider"))
    async with ground.worker():
        owner = await ground.start_script(HELD)
        await finds(ground, "DedupeState = 'held'", "held")
        await ground.keys.resolve("held", Happened("found"), force=True)
        assert await owner.result() == [[returned("found")]]
        await finds(ground, "DedupeState IS NULL", "held")


async def test_a_key_that_succeeds_lies_dormant_all_the_same(real_grounds: Grounds) -> None:
    """Two events, as without search attributes."""
    ground = real_grounds(search_attributes=True)
    await registered(ground.server)
    async with ground.worker():
        await ground.call()
        await finds(ground, "DedupeKey = 'key'", "key")
    assert len(types(await ground.key_workflow().fetch_history())) == 2


async def test_a_failed_key_stays_a_record(real_grounds: Grounds) -> None:
    """Whoever reads its failure gets it; a TTL ends it as before."""
    ground = real_grounds(search_attributes=True)
    await registered(ground.server)
    ground.effects.then(DECLINED)
    async with ground.worker():
        await ground.call(Call(ttl=timedelta(seconds=2)))
        await finds(ground, "DedupeState = 'failed'", "key")
        skipping = await ground.call(Call(skip_failure=True))
        assert (skipping.failed, skipping.reused) == ("Declined", True)
        await ground.closed()


async def test_a_hidden_key_stays_hidden(real_grounds: Grounds) -> None:
    """With a key secret the attribute is the key's HMAC, as in the workflow's id."""
    ground = real_grounds(search_attributes=True, key_secret="of tests")  # noqa: S106
    await registered(ground.server)
    async with ground.worker():
        await ground.call(Call(key="ada@example.com"))
    hidden = ground.key_id("ada@example.com")
    described = await ground.server.get_workflow_handle(hidden).describe()
    assert described.typed_search_attributes[KEY] == hidden.rpartition(":")[2]


async def test_nobody_has_to_serve_the_keys(real_grounds: Grounds) -> None:
    """A failure is recorded and told without; it is found once somebody serves them."""
    ground = real_grounds(search_attributes=True, serve=False)
    await registered(ground.server)
    ground.effects.then(DECLINED)
    async with ground.worker():
        assert (await ground.call()).type == "Declined"
        assert await ground.state() is KeyState.FAILED
        assert await found(ground, "DedupeState = 'failed'") == []
        async with ground.beside(search_attributes=True).worker():
            await finds(ground, "DedupeState = 'failed'", "key")


async def test_a_list_asks_for_what_it_is_to_show(
    real_grounds: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many keys only those are read that failed, or are of one activity."""
    ground = real_grounds(search_attributes=True)
    await registered(ground.server)
    ground.effects.then(*[f"key-{number}" for number in range(8)], DECLINED)
    async with ground.worker():
        await ground.script(*(Call(key=f"key-{number}") for number in range(8)), Call(key="bad"))
        await ground.call(Call(key="other's", activity="other"))
        await finds(ground, "DedupeState = 'failed'", "bad")
        await finds(ground, "DedupeActivity = 'other'", "other's")
        await finds(ground, "DedupeKey = 'key-1'", "key-1")
    keys = DedupeKeys(
        ground.client, organization=ground.organization, project=ground.project, search_attributes=True
    )
    read: list[str] = []
    get = DedupeKeys._get

    async def counted(self: DedupeKeys, key_id: str, *, attempts: bool = False) -> object:
        read.append(key_id)
        return await get(self, key_id, attempts=attempts)

    monkeypatch.setattr(DedupeKeys, "_get", counted)
    assert [each.key async for each in keys.list(state=KeyState.FAILED)] == ["bad"]
    assert [each.key async for each in keys.list(activity="other")] == ["other's"]
    assert [each.key async for each in keys.list(activity="other's")] == []
    chosen = keys.list(query="DedupeKey IN ('key-1', 'bad') OR DedupeActivity = 'other'", activity="effect")
    assert sorted([each.key async for each in chosen]) == ["bad", "key-1"]
    with pytest.raises(RPCError, match="invalid query"):
        await anext(keys.list(query="DedupeKey IS"))
    assert read[:2] == [ground.key_id("bad"), ground.key_id("other's")]


async def test_a_worker_says_that_the_namespace_has_none(real_client: Client) -> None:
    """It does not start: each of its calls would be refused."""
    bare = await new_namespace(real_client)
    plugin = DedupePlugin(organization="acme", project="web", search_attributes=True)
    ground = Ground.on(bare, skips_time=False)
    worker = Worker(
        with_plugins(bare, plugin),
        task_queue="jobs",
        workflows=ground.workflows,
        activities=[ground.effects.effect],
    )
    wanted = "has no search attributes DedupeKey, DedupeActivity, DedupeState of type Keyword: register them"
    with pytest.raises(ValueError, match=wanted):
        await worker.run()
    await registered(bare)
    async with worker_of(with_plugins(bare, plugin), ground):
        assert await missing(bare) == []


def worker_of(client: Client, ground: Ground) -> Worker:
    """Return a worker of a ground's jobs."""
    return Worker(client, task_queue="jobs", workflows=ground.workflows, activities=[ground.effects.effect])


async def test_the_time_skipping_server_goes_without(skipping_client: Client) -> None:
    """It knows no search attributes, and tests of jobs need none."""
    ground = Ground.on(skipping_client, skips_time=True, search_attributes=True)
    ground.effects.then(DECLINED)
    async with ground.worker():
        assert (await ground.call()).type == "Declined"
        assert await ground.call() == returned("argument")
    with pytest.raises(ValueError, match="takes no queries"):
        await anext(ground.keys.list(query="DedupeKey = 'key'"))
