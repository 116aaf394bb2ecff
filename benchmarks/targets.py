"""The targets, and whether they hold: one line each, with the number. Pure.

What was not measured is said to be so; nothing holds by default.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.results import Results
from benchmarks.rounds import IN_A_ROW, LOCAL_WAY, PLAIN_WAY

_THROUGHPUT = 0.65
_CALLERS = 1.3
_HIT_EVENTS = 1.1
_KILLED = 6.0
_EVENTS = 14
_BYTES = 5_000
_FLAT = 1.2
"""What counts as no growth: figures of the same thing differ by this much from one minute to the next."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what became of it."""

    target: str
    measured: str
    holds: bool | None
    """None where it was not measured."""


def verdicts(results: Results) -> list[Verdict]:
    """Judge every target."""
    return [*_hits(results), *_misses(results), *_many(results), *_counted(results), *_rivals(results)]


def _hits(results: Results) -> Iterator[Verdict]:
    for server, limit in (("lifted", 0.45), ("stock", 0.2)):
        yield _at_most(
            f"a hit in a row of 100 takes at most {limit} of a plain activity, {server} server",
            _ratio(results, server, 1, IN_A_ROW, "hit", "latency"),
            limit,
        )
    yield _at_most(
        "a hit in a row of 100 takes at most 2 no-op local activities",
        _ratio(results, "lifted", 1, IN_A_ROW, "hit", "latency", to=LOCAL_WAY.name),
        2.0,
    )
    yield _at_most(
        "a job of one hit takes at most 0.8 of a job of one plain activity",
        _ratio(results, "lifted", 1, 1, "hit", "latency"),
        0.8,
    )


def _misses(results: Results) -> Iterator[Verdict]:
    yield _at_most(
        "a miss takes at most 1.8 of a plain activity, 50 at a time",
        _ratio(results, "lifted", 50, 1, "miss", "latency"),
        1.8,
    )
    rate = _ratio(results, "lifted", 50, 1, "miss", "rate")
    yield Verdict(
        target="misses come to at least 0.65 of the throughput of plain activities, 50 at a time",
        measured="not measured" if rate is None else _times(rate),
        holds=None if rate is None else rate.median >= _THROUGHPUT,
    )


def _many(results: Results) -> Iterator[Verdict]:
    target = "1,000 callers of one key: one execution, all answered within 1.3 of 1,000 plain activities"
    if results.callers:
        ratio = Figure.of([found.deduped / found.plain for found in results.callers])
        executions = {found.executions for found in results.callers}
        number = results.callers[0].callers
        yield Verdict(
            target=target,
            measured=f"{_times(ratio)}, {max(executions)} execution(s), {number:,} callers",
            holds=ratio.median <= _CALLERS and executions == {1},
        )
    else:
        yield Verdict(target=target, measured="not measured", holds=None)
    yield _flat(
        "a hit does not slow with the number of past hits",
        [point.hot / point.fresh for point in results.past_hits],
        lambda ratio: f"{ratio:.2f} of a hit on a fresh key",
    )
    held = results.keys_held
    yield _flat(
        "a hit does not slow with the number of keys held",
        [] if held is None else [point.seconds for point in held.hits],
        lambda seconds: f"{seconds * 1e3:.1f} ms",
    )
    killed = [seconds for found in results.recoveries if found.name == "miss" for seconds in found.seconds]
    yield Verdict(
        target=f"after kill -9 inside an effect (3 s heartbeat) the answer comes within {_KILLED:.0f} s",
        measured=(
            f"{statistics.median(killed):.1f} s, {max(killed):.1f} s at the most, "
            "whatever the sticky time-out of the job's worker"
            if killed
            else "not measured"
        ),
        holds=max(killed) <= _KILLED if killed else None,
    )


def _counted(results: Results) -> Iterator[Verdict]:
    hit, miss, plain = results.count("hit"), results.count("miss"), results.count(PLAIN_WAY.name)
    yield Verdict(
        target="a hit adds at most 1.1 events",
        measured="not measured" if hit is None else f"{hit.further_events:.2f}",
        holds=None if hit is None else hit.further_events <= _HIT_EVENTS,
    )
    added = None if miss is None or plain is None else miss.events - plain.events
    yield Verdict(
        target=f"a miss adds at most {_EVENTS} events to those of a plain activity",
        measured="not measured" if added is None else f"{added}",
        holds=None if added is None else added <= _EVENTS,
    )
    yield Verdict(
        target="a held key stores at most 5 KB of history",
        measured="not measured" if miss is None else f"{miss.key_bytes:,} bytes",
        holds=None if miss is None else miss.key_bytes <= _BYTES,
    )


def _rivals(results: Results) -> Iterator[Verdict]:
    behind: list[str] = []
    rows = 0
    for table in results.tables:
        for kind in ("miss", "hit"):
            for way in (f"wrapper, {kind}", f"child, {kind}"):
                if way in table.laps and kind in table.laps:
                    rows += 1
                    ratio = table.ratio(kind, "latency", to=way)
                    if ratio.median >= 1:
                        behind.append(
                            f"{kind} against {way.partition(',')[0]} {_times(ratio)} ({table.title})"
                        )
    yield Verdict(
        target="ahead of both ways written by hand on every row",
        measured=f"behind on {len(behind)} of {rows} rows: {'; '.join(behind)}" if behind else f"{rows} rows",
        holds=not behind if rows else None,
    )
    peers = [peer for peer in results.peers if peer.skipped is None]
    ours = results.table(server="lifted", concurrency=50, calls=1)
    behind = []
    if ours is not None:
        for peer in peers:
            for kind in ("miss", "hit"):
                mine, its = ours.ratio(kind, "rate").median, peer.ratio(kind, "rate").median
                if mine <= its:
                    behind.append(f"{kind} {1 / mine:.2f}x against {peer.name}'s {1 / its:.2f}x")
    yield Verdict(
        target="a smaller ratio to the own floor than every peer's, 50 at a time",
        measured=("; ".join(behind) or ", ".join(peer.name for peer in peers)) if peers else "not measured",
        holds=not behind if peers and ours is not None else None,
    )


def _ratio(
    results: Results,
    server: str,
    concurrency: int,
    calls: int,
    name: str,
    what: str,
    *,
    to: str = PLAIN_WAY.name,
) -> Figure | None:
    table = results.table(server=server, concurrency=concurrency, calls=calls)
    return None if table is None or name not in table.laps else table.ratio(name, what, to=to)


def _at_most(target: str, figure: Figure | None, limit: float) -> Verdict:
    if figure is None:
        return Verdict(target=target, measured="not measured", holds=None)
    return Verdict(target=target, measured=_times(figure), holds=figure.median <= limit)


def _flat(target: str, figures: Sequence[float], shown: Callable[[float], str]) -> Verdict:
    if not figures[1:]:
        return Verdict(target=target, measured="not measured", holds=None)
    part = max(1, len(figures) // 4)
    first, last = statistics.median(figures[:part]), statistics.median(figures[-part:])
    return Verdict(
        target=target,
        measured=f"{shown(first)} at first, {shown(last)} at last: {last / first:.2f}x",
        holds=last / first <= _FLAT,
    )


def _times(figure: Figure) -> str:
    return f"{figure.median:.2f}x ({figure.low:.2f} to {figure.high:.2f})"
