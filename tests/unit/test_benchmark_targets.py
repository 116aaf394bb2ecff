"""The benchmark's verdicts: each target holds, does not hold, or was not measured. And the report."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.counts import Count
from benchmarks.crowds import Callers, NewKeys, OneKey
from benchmarks.faults import Recovery
from benchmarks.growth import HeldPoint, KeysHeld, PastHits, Sized
from benchmarks.instructions import Instructions
from benchmarks.peers import Peer, PeerLap
from benchmarks.phases import Phase, Step
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.rounds import Lap, Table
from benchmarks.targets import Verdict, verdicts


def lap(latency: float, rate: float) -> Lap:
    """Return a lap of which only latency and throughput matter."""
    return Lap(latency=latency, rate=rate, worker=0.01, server=0.02, driver=0.001, others=0.0)


def table(server: str, concurrency: int, calls: int, ways: Mapping[str, tuple[float, float]]) -> Table:
    """Return a table of two equal rounds: latency and throughput by way."""
    laps = {name: [lap(*figures)] * 2 for name, figures in ways.items()}
    if "its two requests" in laps:
        laps["its two requests"] = [replace(each, server=0.07) for each in laps["its two requests"]]
    return Table(server=server, concurrency=concurrency, calls=calls, laps=laps)


def count(name: str, *, events: float, further: float | None, key_bytes: float = 0.0) -> Count:
    """Return what was counted for one way."""
    return Count(
        name=name,
        job_events=11,
        key_events=events - 11,
        workflow_tasks=2,
        activity_tasks=1,
        job_transitions=6,
        key_transitions=0,
        job_bytes=1_356,
        key_bytes=key_bytes,
        requests={"StartWorkflowExecution": 1.0},
        further_events=further,
    )


def one_key(*, rate: float = 8.0, joined: int = 999, executions: int = 1) -> OneKey:
    """Return what a thousand callers of one key took."""
    return OneKey(lap=lap(1.0, rate), joined=joined, executions=executions)


def callers(*, at_once: OneKey, gathered: OneKey) -> Callers:
    """Return two rounds of a thousand callers, beside plain jobs of which ten end in a second."""
    plain = [lap(1.0, 10.0)] * 2
    return Callers(callers=1_000, plain=plain, at_once=[one_key(), at_once], gathered=[one_key(), gathered])


def peer(*, miss: float = 40.0, hit: float = 60.0, row_of_miss: float = 4.0, row_of_hit: float = 2.0) -> Peer:
    """Return a peer: calls per second beside 100 plain ones, and seconds of a call in a row beside 1."""
    figures = {
        "plain": (1.0, 100.0),
        "miss": (1.0, miss),
        "hit": (1.0, hit),
        "row of plain": (1.0, 1.0),
        "row of miss": (row_of_miss, 1.0),
        "row of hit": (row_of_hit, 1.0),
    }
    return Peer(
        name="dbos",
        version="1.0",
        laps={way: [PeerLap(latency=latency, rate=rate)] * 2 for way, (latency, rate) in figures.items()},
    )


def results() -> Results:
    """Return what a run found out for which every target holds."""
    by_hand = {
        "wrapper, miss": (22.0, 4.0),
        "wrapper, hit": (11.0, 9.0),
        "child, miss": (23.0, 4.0),
        "child, hit": (12.0, 8.0),
    }
    return Results(
        machine="2 cores",
        started="2026-01-01T00:00+00:00",
        tables=[
            table(
                "lifted",
                1,
                100,
                {
                    "plain activity": (10.0, 10.0),
                    "local activity": (3.0, 30.0),
                    "hit": (4.0, 25.0),
                    "miss": (19.0, 5.2),
                    "its two requests": (10.0, 10.0),
                },
            ),
            table(
                "lifted",
                1,
                1,
                {"plain activity": (10.0, 10.0), "hit": (7.0, 14.0), "miss": (13.0, 7.5), **by_hand},
            ),
            *(
                table(
                    "lifted",
                    1,
                    calls,
                    {"plain activity": (1.0, 10.0), "miss": (3.0, 3.0), "its two requests": (2.5, 4.0)},
                )
                for calls in (300, 2_000)
            ),
            table(
                "lifted",
                50,
                1,
                {"plain activity": (10.0, 10.0), "hit": (6.0, 17.0), "miss": (15.0, 7.3), **by_hand},
            ),
            table("stock", 1, 100, {"plain activity": (40.0, 2.5), "hit": (7.0, 14.0)}),
        ],
        counts=[
            count("plain activity", events=11, further=6.0),
            count("miss", events=13, further=18.0, key_bytes=1_100),
            count("hit", events=6, further=1.0),
            count("joined", events=16, further=None),
        ],
        instructions=[Instructions(part="miss", instructions=400_000)],
        timeline=[
            Step(whose="job", event="WorkflowExecutionStarted", at=0.0, spread=(0.0, 0.0)),
            Step(whose="job", event="WorkflowTaskStarted", at=0.01, spread=(0.0, 0.02)),
        ],
        past_hits=[PastHits(at=100 * number, hot=0.008, fresh=0.008) for number in range(8)],
        keys_held=KeysHeld(
            points=[HeldPoint(keys=keys, hits=[0.008] * 3, floors=[0.004] * 3) for keys in (1, 501, 1_001)],
            disk=25_000.0,
        ),
        callers=callers(at_once=one_key(joined=100), gathered=one_key()),
        sizes=[Sized(size=10_000, plain=0.03, miss=0.08, hit=0.015, key_bytes=32_000)],
        recoveries=[Recovery(name="miss", sticky=sticky, seconds=[5.0, 5.5]) for sticky in (1.0, 10.0)],
        new_keys=[
            NewKeys(name="miss", keys=200, slots=100, answered=200, seconds=13.0),
            NewKeys(name="wrapper, miss", keys=200, slots=100, answered=0, seconds=45.0),
        ],
        peers=[peer()],
    )


Change = Callable[[Results], None]


def way(server: str, concurrency: int, calls: int, name: str, latency: float, rate: float) -> Change:
    """Return the change that gives one way of a table another latency and throughput."""

    def change(found: Results) -> None:
        changed = found.table(server=server, concurrency=concurrency, calls=calls)
        assert changed is not None
        changed.laps[name] = [lap(latency, rate)] * 2

    return change


def cpu(concurrency: int, calls: int, of_plain: float, *, way: str = "miss") -> Change:
    """Return the change that gives a way on the lifted server so much of the CPU of plain activities."""

    def change(found: Results) -> None:
        changed = found.table(server="lifted", concurrency=concurrency, calls=calls)
        assert changed is not None
        more = changed.laps["plain activity"][0].cpu * (of_plain - 1)
        server = changed.laps["plain activity"][0].server + more
        changed.laps[way] = [replace(each, server=server) for each in changed.laps[way]]

    return change


def both(*changes: Change) -> Change:
    """Return the change that makes some changes."""

    def change(found: Results) -> None:
        for each in changes:
            each(found)

    return change


def counted(name: str, **facts: Any) -> Change:
    """Return the change that counts something else for one way."""

    def change(found: Results) -> None:
        found.counts = [replace(each, **facts) if each.name == name else each for each in found.counts]

    return change


def crowd(*, at_once: OneKey | None = None, gathered: OneKey | None = None) -> Change:
    """Return the change that gives the callers of one key other figures."""

    def change(found: Results) -> None:
        found.callers = callers(at_once=at_once or one_key(), gathered=gathered or one_key())

    return change


def unanswered(found: Results) -> None:
    """Leave one of the new keys without an answer."""
    found.new_keys[0] = replace(found.new_keys[0], answered=199)


def slower_with_hits(found: Results) -> None:
    """Let hits on the hot key become slower."""
    found.past_hits = [replace(point, hot=0.008 * (1 + point.at / 1_000)) for point in found.past_hits]


def slower_with_keys(found: Results) -> None:
    """Let hits become slower with the keys held, where the floor stays as it is."""
    held = found.keys_held
    assert held is not None
    points = [replace(point, hits=[0.008 * (1 + point.keys / 1_000)] * 3) for point in held.points]
    found.keys_held = replace(held, points=points)


def late(found: Results) -> None:
    """Let one answer after a kill come late."""
    found.recoveries[1] = replace(found.recoveries[1], seconds=[5.0, 14.4])


def against(other: Peer) -> Change:
    """Return the change that compares with another peer."""

    def change(found: Results) -> None:
        found.peers = [other]

    return change


NOT_HELD: list[tuple[str, Change]] = [
    ("a hit in a row of 100 takes at most 0.45", way("lifted", 1, 100, "hit", 5.0, 25.0)),
    ("a hit in a row of 100 takes at most 0.2", way("stock", 1, 100, "hit", 9.0, 11.0)),
    ("a hit in a row of 100 takes at most 2 no-op", way("lifted", 1, 100, "local activity", 1.5, 60.0)),
    ("a job of one hit", way("lifted", 1, 1, "hit", 9.0, 11.0)),
    ("a job of one miss takes at most 1.4 of the time", way("lifted", 1, 1, "miss", 15.0, 7.0)),
    ("a job of one miss takes at most 1.35 of the CPU", cpu(1, 1, 1.4)),
    ("misses come to at least 0.72", way("lifted", 50, 1, "miss", 15.0, 7.0)),
    ("misses take at most 1.4 of the CPU", cpu(50, 1, 1.5)),
    ("a miss in a row of 100 takes at most 2.0 of the time", way("lifted", 1, 100, "miss", 21.0, 5.0)),
    ("a miss in a row of 100 takes at most 1.85 of the CPU", cpu(1, 100, 1.9)),
    ("a job of 300 misses at once takes at most 3.5", way("lifted", 1, 300, "miss", 3.6, 3.0)),
    ("a job of 300 misses at once takes at most 2.5", cpu(1, 300, 2.6)),
    ("a job of 2,000 misses at once takes at most 3.5", way("lifted", 1, 2_000, "miss", 3.6, 3.0)),
    ("a job of 2,000 misses at once takes at most 2.5", cpu(1, 2_000, 2.6)),
    *(
        (f"{what}, of a plain activity with the two requests of a key: at most 1.1 of the {resource}", change)
        for what, calls, seconds in (
            ("a miss in a row of 100", 100, 7.0),
            ("a job of 300 misses at once", 300, 1.5),
            ("a job of 2,000 misses at once", 2_000, 1.5),
        )
        for resource, change in (
            ("time", way("lifted", 1, calls, "its two requests", seconds, 10.0)),
            ("CPU", both(cpu(1, calls, 0.3, way="its two requests"), cpu(1, calls, 1.8))),
        )
    ),
    ("many callers of one key", crowd(at_once=one_key(rate=4.0))),
    ("many callers of one key", crowd(at_once=one_key(executions=2))),
    ("many callers that all wait", crowd(gathered=one_key(rate=4.0))),
    ("many callers that all wait", crowd(gathered=one_key(executions=2))),
    ("many callers that all wait", crowd(gathered=one_key(joined=998))),
    ("all are answered", unanswered),
    ("a hit does not slow with the number of past hits", slower_with_hits),
    ("a hit does not slow with the number of keys held", slower_with_keys),
    ("after kill -9", late),
    ("a hit adds at most 1.1 events", counted("hit", further_events=2.0)),
    ("a job of one miss takes at most 10 requests", counted("miss", requests={"any": 10.2})),
    ("a key that nobody else asks for has at most 2", counted("miss", key_events=3.0)),
    ("a held key stores at most 1,200 bytes", counted("miss", key_bytes=1_201.0)),
    ("ahead of both ways written by hand", way("lifted", 50, 1, "wrapper, miss", 14.0, 4.0)),
    ("ahead of both ways written by hand", way("lifted", 50, 1, "child, hit", 12.0, 18.0)),
    ("a smaller ratio to the own floor", against(peer(miss=80.0))),
    ("a smaller ratio to the own floor", against(peer(row_of_miss=1.5))),
    ("a smaller ratio to the own floor", against(peer(row_of_hit=0.3))),
]


def not_held(found: Results) -> list[Verdict]:
    """Return the verdicts that do not hold."""
    return [verdict for verdict in verdicts(found) if verdict.holds is False]


def test_every_target_can_hold() -> None:
    """There are figures for which every target is judged to hold."""
    assert [verdict for verdict in verdicts(results()) if verdict.holds is not True] == []


@pytest.mark.parametrize(
    ("target", "change"), NOT_HELD, ids=[f"{target} {number}" for number, (target, _) in enumerate(NOT_HELD)]
)
def test_each_target_can_fail(target: str, change: Change) -> None:
    """Figures that miss one target make that target fail, and no other."""
    found = results()
    change(found)
    [verdict] = not_held(found)
    assert verdict.target.startswith(target)


def test_every_target_is_seen_to_fail() -> None:
    """No target is without figures that miss it."""
    missed = tuple({target for target, _ in NOT_HELD})
    assert [verdict.target for verdict in verdicts(results()) if not verdict.target.startswith(missed)] == []


def test_nothing_holds_by_default() -> None:
    """What was not measured is said to be so, of every target."""
    judged = verdicts(Results(machine="2 cores", started="2026-01-01"))
    assert {(verdict.holds, verdict.measured) for verdict in judged} == {(None, "not measured")}
    assert len(judged) == len(verdicts(results()))


def test_a_row_behind_in_throughput_only_is_named() -> None:
    """Throughput is judged beside latency, and the verdict says on which row ours is behind."""
    found = results()
    way("lifted", 50, 1, "child, hit", 12.0, 18.0)(found)
    [verdict] = not_held(found)
    assert verdict.measured == (
        "behind on 1 of 8 rows: hit against child, 0.94x (0.94 to 0.94) the throughput "
        "(jobs of one call, 50 at a time, lifted server)"
    )


def test_peers_that_were_skipped_are_no_measurement() -> None:
    """Nobody is ahead of a peer that did not run."""
    found = results()
    found.peers = [Peer(name="restate", skipped="no restate-server on the path")]
    assert verdicts(found)[-1].holds is None


def test_the_report_renders_every_part() -> None:
    """Each part of a run has its place in the report, those that failed and were skipped too."""
    found = results()
    found.peers.append(Peer(name="restate", skipped="no restate-server on the path"))
    found.failed.append("payloads: TimeoutError()")
    text = report(found)
    for part in (
        "### Jobs of 100 calls in a row, 1 at a time, lifted server",
        "### Jobs of one call, 50 at a time, lifted server",
        "### Counted, for a job of one call",
        "### Instructions of the Python part",
        "### One miss on its own, step by step",
        "### A hit, by the number of past hits on its key",
        "### A hit, by the number of keys held",
        "### By the size of argument and result",
        "### 1,000 callers of one key at once",
        "### More new keys at once than activity slots",
        "### From `kill -9` inside the effect to the answer",
        "### Peers, each against its own plain step",
        "restate: skipped, no restate-server on the path",
        "Left out: payloads: TimeoutError()",
        "### Targets",
        "- holds: a held key stores at most 1,200 bytes of history: 1,100 bytes",
    ):
        assert part in text


def test_the_report_of_nothing_has_the_targets() -> None:
    """A run of which every part failed still says what was to be measured."""
    text = report(Results(machine="2 cores", started="2026-01-01"))
    assert text.count("- not measured: ") == len(verdicts(results()))


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The JSON file holds all that a run found out; what follows from it is worked out anew."""
    raw = tmp_path / "build" / "raw.json"
    results().write(raw)
    assert Results.read(raw) == results()
    assert Results.read(raw).phases == [
        Phase(name="workflow task waits", whose="server", begins=0.0, ends=0.01)
    ]
