"""Hostile and awkward input: the job ends with an answer or a clear error, and no task fails for ever."""

import asyncio
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, get_args
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from dedupe import DedupeKeys, DedupePlugin
from dedupe.admin import KeyState
from dedupe.keys import Keyspace, Scope
from tests.integration.awkward import (
    ODD_KEYS,
    ODD_OPTIONS,
    TAKEN,
    Ask,
    AwkwardJob,
    Ending,
    TypedJob,
    digest,
    end,
    grow,
    leave,
    measure,
    no_number,
)
from tests.support.ends import end_of, is_open, stuck
from tests.support.waiting import until


class House:
    """A project of its own on the session's server, with one worker."""

    def __init__(self, client: Client, project: str) -> None:
        """Name it."""
        self.client = client
        self.project = project
        self.keys = DedupeKeys(client, organization="acme", project=project)

    async def begin(self, ask: Ask) -> WorkflowHandle[Any, str]:
        """Start a job."""
        return await self.client.start_workflow(
            AwkwardJob.run, ask, id=f"job-{uuid4()}", task_queue=self.project
        )

    async def ends(self, *asks: Ask) -> list[str]:
        """Start jobs, and return how each of them ended: its result, or what it failed with.

        No workflow task of a job, or of its key, has failed on the way.
        """
        handles = await asyncio.gather(*map(self.begin, asks))
        ends = await asyncio.gather(*map(end_of, handles))
        ids = [handle.id for handle in handles]
        for ask in asks:
            key_id = self.key_id(ask.key)
            if ask.odd_key is None and await self.keys.get(ask.key) is not None:
                ids.append(key_id)
        assert await stuck(self.client, ids) == []
        return ends

    async def state(self, key: str) -> KeyState | None:
        """Return where a key stands."""
        record = await self.keys.get(key)
        return None if record is None else record.state

    def key_id(self, key: str) -> str:
        """Return the id of a key's workflow."""
        return Keyspace(organization="acme", project=self.project).scoped(key, scope=Scope.PROJECT).format()


@pytest.fixture
async def house(running_server: str) -> AsyncIterator[House]:
    """A project of the test's own."""
    project = f"awkward-{uuid4()}"
    client = await Client.connect(
        running_server,
        data_converter=pydantic_data_converter,
        plugins=[
            DedupePlugin(
                organization="acme",
                project=project,
                task_queue=f"keys-{project}",
                wait_slice=timedelta(seconds=5),
            )
        ],
    )
    with ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            task_queue=project,
            workflows=[AwkwardJob, TypedJob],
            activities=[measure, grow, end, leave, no_number],
            activity_executor=threads,
        ):
            yield House(client, project)


ODD_TEXTS = [
    *(chr(plane * 0x10000 + offset) for plane in range(17) for offset in (0x41, 0xFFFD)),
    *map(chr, (*range(1, 0x20), 0x7F, 0x85, 0x200B, 0x202E, 0xFEFF, 0xFFFE)),
    "../../etc/passwd",
    "a/b",
    "a%2Fb",
    "a%2fb",
    "%",
    "%00",
    "~",
    "org:acme:x",
    "x' OR '1'='1",
    "é",
    "e\u0301",
    " leading and trailing ",
    "0" * 64,
    "k" * 2_048,
    "k" * 2_047 + "l",
    "\U0001f600" * 2_048,
]


async def test_every_text_is_a_key_of_its_own(house: House) -> None:
    """Keys of every plane, with control characters, path-like, or of the greatest length are told apart."""
    ends = await house.ends(*(Ask(key=text, text=text) for text in ODD_TEXTS))

    assert ends == [digest(str(len(text))) for text in ODD_TEXTS]
    ids = {house.key_id(text) for text in ODD_TEXTS}
    assert len(ids) == len(set(ODD_TEXTS)) == len(ODD_TEXTS)
    assert all([await is_open(house.client, id_) for id_ in ids])


async def test_what_is_no_key_fails_the_job_at_once(house: House) -> None:
    """The job fails with a clear error, and nothing has been executed."""
    ends = await house.ends(*(Ask(key="unused", odd_key=odd) for odd in ODD_KEYS))

    for odd, ended in zip(ODD_KEYS, ends, strict=True):
        assert ended.startswith("InvalidDeduplicationKeyError: invalid deduplication key"), odd


async def test_odd_options_are_taken_or_refused_clearly(house: House) -> None:
    """A call with options that the service may not take works, or fails the job; its key is not held up."""
    asks = [Ask(key=odd, text="abc", odd_options=odd) for odd in ODD_OPTIONS]
    ends = await house.ends(*asks)
    after = await house.ends(*(Ask(key=odd, text="abc") for odd in ODD_OPTIONS))

    refused = {odd for odd, ended in zip(ODD_OPTIONS, ends, strict=True) if ended != digest("3")}
    assert refused == ODD_OPTIONS.keys() - TAKEN
    for ended in ends:
        assert ended == digest("3") or ended.startswith("InvalidCallError: the call of activity")
    assert after == [digest("3")] * len(ODD_OPTIONS)


async def test_results_of_every_size(house: House) -> None:
    """A result that fits arrives; one that does not fails the call, and the key is settled as failed."""
    sizes = [0, 1, 1_900_000, 2_100_000, 5_000_000]
    ends = await house.ends(*(Ask(key=str(size), activity="grow", text=str(size)) for size in sizes))

    assert ends[:3] == [digest("x" * size) for size in sizes[:3]]
    assert all(ended.startswith("ActivityError: ") and "limit" in ended for ended in ends[3:])
    assert [await house.state(str(size)) for size in sizes] == [
        *[KeyState.SUCCEEDED] * 3,
        *[KeyState.FAILED] * 2,
    ]


async def test_arguments_of_every_size(house: House) -> None:
    """An argument that fits arrives. One that does not holds the job, as in any call, but never the key."""
    sizes = [0, 1_900_000]
    ends = await house.ends(*(Ask(key=str(size), grow_to=size) for size in sizes))
    assert ends == [digest(str(size)) for size in sizes]

    job = await house.begin(Ask(key="k", grow_to=2_100_000))

    async def is_held() -> bool:
        return bool(await stuck(house.client, [job.id]))

    await until(is_held, what="a failure of the job's task")
    assert "error limit" in " ".join(await stuck(house.client, [job.id]))
    await job.terminate()
    assert await house.keys.get("k") is None
    assert await house.ends(Ask(key="k", text="abc")) == [digest("3")]


async def test_activities_that_end_in_no_good_way(house: House) -> None:
    """However an activity ends, the job gets an error, and the key is settled as failed."""
    asks = [
        *(Ask(key=ending, activity="end", text=ending) for ending in get_args(Ending)),
        Ask(key="system exit", activity="leave"),
        Ask(key="unregistered", activity="nobody_has_this"),
        Ask(key="undecodable", number=7),
    ]
    ends = dict(zip((ask.key for ask in asks), await house.ends(*asks), strict=True))

    for key, reason in {
        "unserialisable": "Unable to serialize",
        "no exception": "Silent: nothing catches this",
        "cancelled": "CancelledError: by itself",
        "surrogate": "surrogates not allowed",
        "long": "ServerError: Failure exceeds size limit",
        "system exit": "SystemExit: 3",
        "unregistered": "NotFoundError: ",
        "undecodable": "Failed decoding arguments",
    }.items():
        assert ends[key].startswith("ActivityError: Activity task failed <- ")
        assert reason in ends[key]
        assert await house.state(key) is KeyState.FAILED
    assert ends.keys() == {ask.key for ask in asks}


async def test_a_result_that_is_not_of_the_type(house: House) -> None:
    """A job whose activity does not return what it says fails with a clear error; the record stays."""
    handles = [
        await house.client.start_workflow(TypedJob.run, "k", id=f"typed-{uuid4()}", task_queue=house.project)
        for _ in range(2)
    ]
    ends = await asyncio.gather(*map(end_of, handles))
    assert await stuck(house.client, [*(handle.id for handle in handles), house.key_id("k")]) == []
    record = await house.keys.get("k")
    assert record is not None
    assert record.result_json == '"not a number"'
    assert [ended.split(":")[0] for ended in ends] == ["UnreadableRecordError"] * 2


@pytest.mark.filterwarnings(
    # The SDK drops the coroutine of a workflow whose __init__ raises.
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
async def test_junk_by_hand_does_no_harm(house: House) -> None:
    """Signals and starts by hand, with input that no claim makes, hold up no key and change no record."""
    [before] = await house.ends(Ask(key="k", text="abc"))
    key = house.client.get_workflow_handle(house.key_id("k"))
    signals: list[list[object]] = [[], ["junk"], [{"generation": "x"}, None], [1, 2, 3]]
    starts: list[list[object]] = [[], ["junk"], [{"key": "k"}, "junk"], [None, None]]
    for name in ("attach", "rerun", "forget", "nonsense"):
        for arguments in signals:
            await key.signal(name, args=arguments)
    by_hand = [
        await house.client.start_workflow(
            "dedupe.key",
            args=arguments,
            id=house.key_id(f"by-hand-{index}"),
            task_queue=f"keys-{house.project}",
        )
        for index, arguments in enumerate(starts)
    ]
    ends = [await end_of(handle) for handle in by_hand]

    assert all("is started by deduplicated calls only" in ended for ended in ends)
    assert await stuck(house.client, [key.id, *(handle.id for handle in by_hand)]) == []
    assert await house.ends(Ask(key="k", text="abc")) == [before]
    after = await house.ends(*(Ask(key=f"by-hand-{index}", text="abc") for index in range(len(by_hand))))
    assert after == [before] * len(by_hand)
    assert await is_open(house.client, key.id)
    # The SDK leaves the coroutine of a workflow whose __init__ raised: let it be collected here, unheard.
    gc.collect()
