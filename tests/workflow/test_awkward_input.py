"""Hostile and awkward input: the job ends with an answer or a clear error, and no task fails for ever."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import get_args

import pytest

from dedupe.operate.view import KeyState
from tests.support.ends import end_of, is_open, stuck
from tests.support.ground import Ground, Grounds
from tests.support.waiting import until
from tests.workflow.awkward import (
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


@pytest.fixture
async def house(real_grounds: Grounds) -> AsyncIterator[Ground]:
    """A ground with one worker, of these jobs and activities."""
    ground = real_grounds(wait_slice=timedelta(seconds=5))
    with ThreadPoolExecutor(2) as threads:
        async with ground.worker(
            workflows=[AwkwardJob, TypedJob],
            activities=[measure, grow, end, leave, no_number],
            activity_executor=threads,
        ):
            yield ground


async def ends_of(house: Ground, *asks: Ask) -> list[str]:
    """Start jobs, and return how each of them ended: its result, or what it failed with.

    No workflow task of a job, or of its key, has failed on the way.
    """
    jobs = await asyncio.gather(*(house.start(AwkwardJob.run, ask) for ask in asks))
    ends = await asyncio.gather(*map(end_of, jobs))
    keys = [ask.key for ask in asks if ask.odd_key is None and await house.state(ask.key) is not None]
    assert await stuck(house.client, [*(job.id for job in jobs), *map(house.key_id, keys)]) == []
    return ends


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


async def test_every_text_is_a_key_of_its_own(house: Ground) -> None:
    """Keys of every plane, with control characters, path-like, or of the greatest length are told apart."""
    ends = await ends_of(house, *(Ask(key=text, text=text) for text in ODD_TEXTS))

    assert ends == [digest(str(len(text))) for text in ODD_TEXTS]
    ids = {house.key_id(text) for text in ODD_TEXTS}
    assert len(ids) == len(set(ODD_TEXTS)) == len(ODD_TEXTS)
    assert all([await is_open(house.client, id_) for id_ in ids])


async def test_what_is_no_key_fails_the_job_at_once(house: Ground) -> None:
    """The job fails with a clear error, and nothing has been executed."""
    ends = await ends_of(house, *(Ask(key="unused", odd_key=odd) for odd in ODD_KEYS))

    for odd, ended in zip(ODD_KEYS, ends, strict=True):
        assert ended.startswith("InvalidDeduplicationKeyError: invalid deduplication key"), odd


async def test_odd_options_are_taken_or_refused_clearly(house: Ground) -> None:
    """A call with options that the service may not take works, or fails the job; its key is not held up."""
    asks = [Ask(key=odd, text="abc", odd_options=odd) for odd in ODD_OPTIONS]
    ends = await ends_of(house, *asks)
    after = await ends_of(house, *(Ask(key=odd, text="abc") for odd in ODD_OPTIONS))

    refused = {odd for odd, ended in zip(ODD_OPTIONS, ends, strict=True) if ended != digest("3")}
    assert refused == ODD_OPTIONS.keys() - TAKEN
    for ended in ends:
        assert ended == digest("3") or ended.startswith("InvalidCallError: the call of activity")
    assert after == [digest("3")] * len(ODD_OPTIONS)


async def test_results_of_every_size(house: Ground) -> None:
    """A result that fits arrives; one that does not fails the call, and the key is settled as failed."""
    sizes = [0, 1, 1_900_000, 2_100_000, 5_000_000]
    ends = await ends_of(house, *(Ask(key=str(size), activity="grow", text=str(size)) for size in sizes))

    assert ends[:3] == [digest("x" * size) for size in sizes[:3]]
    assert all(ended.startswith("ActivityError: ") and "limit" in ended for ended in ends[3:])
    assert [await house.state(str(size)) for size in sizes] == [
        *[KeyState.SUCCEEDED] * 3,
        *[KeyState.FAILED] * 2,
    ]


async def test_arguments_of_every_size(house: Ground) -> None:
    """An argument that fits arrives. One that does not holds the job, as in any call, but never the key."""
    sizes = [0, 1_900_000]
    ends = await ends_of(house, *(Ask(key=str(size), grow_to=size) for size in sizes))
    assert ends == [digest(str(size)) for size in sizes]

    job = await house.start(AwkwardJob.run, Ask(key="k", grow_to=2_100_000))

    async def is_held() -> bool:
        return bool(await stuck(house.client, [job.id]))

    await until(is_held, what="a failure of the job's task")
    assert "error limit" in " ".join(await stuck(house.client, [job.id]))
    await job.terminate()
    assert await house.keys.get("k") is None
    assert await ends_of(house, Ask(key="k", text="abc")) == [digest("3")]


async def test_activities_that_end_in_no_good_way(house: Ground) -> None:
    """However an activity ends, the job gets an error, and a key that it held is settled as failed."""
    asks = [
        *(Ask(key=ending, activity="end", text=ending) for ending in get_args(Ending)),
        Ask(key="system exit", activity="leave"),
        Ask(key="unregistered", activity="nobody_has_this"),
        Ask(key="undecodable", number=7),
    ]
    ends = dict(zip((ask.key for ask in asks), await ends_of(house, *asks), strict=True))

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
        # Arguments that cannot be decoded fail the activity before it could take the key.
        assert await house.state(key) is (None if key == "undecodable" else KeyState.FAILED), key
    assert ends.keys() == {ask.key for ask in asks}


async def test_a_result_that_is_not_of_the_type(house: Ground) -> None:
    """A job whose activity does not return what it says fails with a clear error; the record stays."""
    handles = [await house.start(TypedJob.run, "k") for _ in range(2)]
    ends = await asyncio.gather(*map(end_of, handles))
    assert await stuck(house.client, [*(handle.id for handle in handles), house.key_id("k")]) == []
    record = await house.keys.get("k")
    assert record is not None
    assert record.result_json == '"not a number"'
    assert [ended.split(":")[0] for ended in ends] == ["UnreadableRecordError"] * 2
