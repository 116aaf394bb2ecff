"""The targets, and whether they hold: one line each, with the number. Pure.

What was not measured is said to be so; nothing holds by default.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.crowds import Callers, NewKeys, OneKey
from benchmarks.faults import HEARTBEAT
from benchmarks.figures import Figure
from benchmarks.peers import Peer
from benchmarks.peers.laps import ROW_OF
from benchmarks.results import Results
from benchmarks.rounds import GATHERED, IN_A_ROW, LOCAL_WAY, PLAIN_WAY, Table

_HIT_IN_A_ROW = {"lifted": 0.45, "stock": 0.2}
"""Of a plain activity, by server."""
_LOCALS = 2.0
"""No-op local activities that a hit may take."""
_HIT_JOB = 0.8
_MISS = {"time": 1.4, "CPU": 1.35}
"""Of a plain activity, one at a time."""
_THROUGHPUT = 0.72
_CROWDED_CPU = 1.4
_MISS_IN_A_ROW = {"time": 2.0, "CPU": 1.85}
_GATHERED_MISS = {"time": 3.5, "CPU": 2.5}
_FLOOR = 1.1
"""Of a plain activity and the two requests of a new key by themselves."""
_CALLERS = 1.3
_WAITING_CALLERS = 1.43
_KILLED = 6.0
"""Seconds."""
_HIT_EVENTS = 1.1
_MISS_REQUESTS = 10
_KEY_EVENTS = 2
_KEY_BYTES = 1_200
_FLAT = 1.2
"""What counts as no growth: figures of the same thing differ by this much from one minute to the next."""
_NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what became of it."""

    target: str
    measured: str
    holds: bool | None
    """None where it was not measured."""


def verdicts(results: Results) -> list[Verdict]:
    """Judge every target."""
    return [
        *_hits(results),
        *_misses(results),
        *_many(results),
        *_growth(results),
        _killed(results),
        *_counted(results),
        _by_hand(results),
        _peers(results),
    ]


def _hits(results: Results) -> Iterator[Verdict]:
    for server, limit in _HIT_IN_A_ROW.items():
        yield _at_most(
            f"a hit in a row of {IN_A_ROW} takes at most {limit} of a plain activity, {server} server",
            _ratio(results.table(server=server, concurrency=1, calls=IN_A_ROW), "hit", "latency"),
            limit,
        )
    yield _at_most(
        f"a hit in a row of {IN_A_ROW} takes at most {_LOCALS:g} no-op local activities",
        _ratio(
            results.table(server="lifted", concurrency=1, calls=IN_A_ROW), "hit", "latency", to=LOCAL_WAY.name
        ),
        _LOCALS,
    )
    yield _at_most(
        f"a job of one hit takes at most {_HIT_JOB} of a job of one plain activity",
        _ratio(results.table(server="lifted", concurrency=1, calls=1), "hit", "latency"),
        _HIT_JOB,
    )


def _misses(results: Results) -> Iterator[Verdict]:
    yield from _miss(results, "a job of one miss", _MISS, calls=1)
    table = results.table(server="lifted", concurrency=50, calls=1)
    rate = _ratio(table, "miss", "rate")
    yield Verdict(
        target=f"misses come to at least {_THROUGHPUT} of the throughput of plain activities, 50 at a time",
        measured=_NOT_MEASURED if rate is None else _times(rate),
        holds=None if rate is None else rate.median >= _THROUGHPUT,
    )
    yield _at_most(
        f"misses take at most {_CROWDED_CPU} of the CPU of plain activities, 50 at a time",
        _ratio(table, "miss", "cpu"),
        _CROWDED_CPU,
    )
    yield from _miss(results, f"a miss in a row of {IN_A_ROW}", _MISS_IN_A_ROW, calls=IN_A_ROW)
    for calls in GATHERED:
        yield from _miss(results, f"a job of {calls:,} misses at once", _GATHERED_MISS, calls=calls)


def _miss(results: Results, what: str, limits: Mapping[str, float], *, calls: int) -> Iterator[Verdict]:
    table = results.table(server="lifted", concurrency=1, calls=calls)
    for resource, figure in (("time", "latency"), ("CPU", "cpu")):
        limit = limits[resource]
        yield _at_most(
            f"{what} takes at most {limit} of the {resource} of plain activities",
            _ratio(table, "miss", figure),
            limit,
        )
        if calls > 1:
            yield _at_most(
                f"{what}, of a plain activity with the two requests of a key: "
                f"at most {_FLOOR} of the {resource}",
                None if table is None else table.ratio_to_floor(figure),
                _FLOOR,
            )


def _many(results: Results) -> Iterator[Verdict]:
    found = results.callers
    target = (
        f"many callers of one key: one execution, all answered within {_CALLERS} of as many plain activities"
    )
    gathered = f"many callers that all wait for one effect: the same, within {_WAITING_CALLERS}"
    if found is None:
        yield Verdict(target=target, measured=_NOT_MEASURED, holds=None)
        yield Verdict(target=gathered, measured=_NOT_MEASURED, holds=None)
    else:
        yield _crowd(target, found, found.at_once, limit=_CALLERS, waiting=0)
        yield _crowd(gathered, found, found.gathered, limit=_WAITING_CALLERS, waiting=found.callers - 1)
    ours = next((found for found in results.new_keys if found.name == "miss"), None)
    yield Verdict(
        target="all are answered where there are more new keys at once than activity slots",
        measured=_NOT_MEASURED if ours is None else "; ".join(map(_answered, results.new_keys)),
        holds=None if ours is None else ours.answered == ours.keys,
    )


def _crowd(target: str, found: Callers, crowd: list[OneKey], *, limit: float, waiting: int) -> Verdict:
    ratio = Figure.of(found.ratios(crowd))
    executions = max(one.executions for one in crowd)
    joined = min(one.joined for one in crowd)
    return Verdict(
        target=target,
        measured=f"{_times(ratio)}, {found.callers:,} callers, {joined:,} joined, {executions} execution(s)",
        holds=ratio.median <= limit and executions == 1 and joined >= waiting,
    )


def _growth(results: Results) -> Iterator[Verdict]:
    yield _flat(
        "a hit does not slow with the number of past hits",
        [point.hot / point.fresh for point in results.past_hits],
        lambda ratio: f"{ratio:.2f} of a hit on a fresh key",
    )
    held = results.keys_held
    yield _flat(
        "a hit does not slow with the number of keys held",
        []
        if held is None
        else [
            hit / floor for point in held.points for hit, floor in zip(point.hits, point.floors, strict=True)
        ],
        lambda ratio: f"{ratio:.2f} no-op local activities",
    )


def _killed(results: Results) -> Verdict:
    seconds = [taken for found in results.recoveries if found.name == "miss" for taken in found.seconds]
    return Verdict(
        target=(
            f"after kill -9 inside an effect ({HEARTBEAT:g} s heartbeat) "
            f"the answer comes within {_KILLED:g} s, whatever the sticky time-out of the job's worker"
        ),
        measured=(
            f"{statistics.median(seconds):.1f} s, {max(seconds):.1f} s at the most"
            if seconds
            else _NOT_MEASURED
        ),
        holds=max(seconds) <= _KILLED if seconds else None,
    )


def _counted(results: Results) -> Iterator[Verdict]:
    hit, miss = results.count("hit"), results.count("miss")
    further = None if hit is None else hit.further_events
    yield Verdict(
        target=f"a hit adds at most {_HIT_EVENTS} events",
        measured=_NOT_MEASURED if further is None else f"{further:.2f}",
        holds=None if further is None else further <= _HIT_EVENTS,
    )
    requests = None if miss is None else sum(miss.requests.values())
    yield Verdict(
        target=f"a job of one miss takes at most {_MISS_REQUESTS} requests",
        measured=_NOT_MEASURED if requests is None else f"{requests:.1f}",
        holds=None if requests is None else round(requests, 1) <= _MISS_REQUESTS,
    )
    yield Verdict(
        target=f"a key that nobody else asks for has at most {_KEY_EVENTS} events",
        measured=_NOT_MEASURED if miss is None else f"{miss.key_events:g}",
        holds=None if miss is None else miss.key_events <= _KEY_EVENTS,
    )
    yield Verdict(
        target=f"a held key stores at most {_KEY_BYTES:,} bytes of history",
        measured=_NOT_MEASURED if miss is None else f"{miss.key_bytes:,.0f} bytes",
        holds=None if miss is None else miss.key_bytes <= _KEY_BYTES,
    )


def _by_hand(results: Results) -> Verdict:
    rows = [
        (table, kind, f"{way}, {kind}")
        for table in results.tables
        for kind in ("miss", "hit")
        for way in ("wrapper", "child")
        if {kind, f"{way}, {kind}"} <= set(table.laps)
    ]
    behind = [text for row in rows if (text := _behind(*row))]
    return Verdict(
        target="ahead of both ways written by hand on every row, in latency and in throughput",
        measured=_told(behind, rows=len(rows)) if rows else _NOT_MEASURED,
        holds=not behind if rows else None,
    )


def _behind(table: Table, kind: str, way: str) -> str:
    """Return in what ours is behind a way written by hand; nothing where it is ahead in both."""
    latency, rate = table.ratio(kind, "latency", to=way), table.ratio(kind, "rate", to=way)
    found = [f"{_times(latency)} the latency"] if latency.median >= 1 else []
    found += [f"{_times(rate)} the throughput"] if rate.median <= 1 else []
    return f"{kind} against {way.partition(',')[0]}, {' and '.join(found)} ({table.title})" if found else ""


def _peers(results: Results) -> Verdict:
    peers = [peer for peer in results.peers if peer.skipped is None]
    comparisons = [pair for peer in peers for pair in _against(results, peer)]
    behind = [text for text, is_ahead in comparisons if not is_ahead]
    return Verdict(
        target="a smaller ratio to the own floor than every peer's",
        measured=(
            f"{_told(behind, rows=len(comparisons))}; {', '.join(peer.name for peer in peers)}"
            if comparisons
            else _NOT_MEASURED
        ),
        holds=not behind if comparisons else None,
    )


def _against(results: Results, peer: Peer) -> Iterator[tuple[str, bool]]:
    """Compare the times that calls take, relative to the own floor. Say which, and whether ours is less."""
    for kind in ("miss", "hit"):
        crowd = _ratio(results.table(server="lifted", concurrency=50, calls=1), kind, "rate")
        if crowd is not None:
            mine, its = 1 / crowd.median, 1 / peer.ratio(kind, "rate").median
            yield f"{kind} {mine:.2f}x against {peer.name}'s {its:.2f}x, 50 at a time", mine < its
        row = _ratio(results.table(server="lifted", concurrency=1, calls=IN_A_ROW), kind, "latency")
        if row is not None:
            mine, its = row.median, peer.ratio(ROW_OF + kind, "latency").median
            yield f"{kind} {mine:.2f}x against {peer.name}'s {its:.2f}x, in a row of {IN_A_ROW}", mine < its


def _told(behind: Sequence[str], *, rows: int) -> str:
    return f"behind on {len(behind)} of {rows} rows: {'; '.join(behind)}" if behind else f"all {rows} rows"


def _answered(found: NewKeys) -> str:
    return f"{found.name}: {found.answered} of {found.keys} on {found.slots} slots, {found.seconds:.0f} s"


def _ratio(table: Table | None, name: str, what: str, *, to: str = PLAIN_WAY.name) -> Figure | None:
    return None if table is None or not {name, to} <= set(table.laps) else table.ratio(name, what, to=to)


def _at_most(target: str, figure: Figure | None, limit: float) -> Verdict:
    if figure is None:
        return Verdict(target=target, measured=_NOT_MEASURED, holds=None)
    return Verdict(target=target, measured=_times(figure), holds=figure.median <= limit)


def _flat(target: str, figures: Sequence[float], shown: Callable[[float], str]) -> Verdict:
    """Compare the last quarter of some figures with the first."""
    if not figures[1:]:
        return Verdict(target=target, measured=_NOT_MEASURED, holds=None)
    part = max(1, len(figures) // 4)
    first, last = statistics.median(figures[:part]), statistics.median(figures[-part:])
    return Verdict(
        target=target,
        measured=f"{shown(first)} at first, {shown(last)} at last: {last / first:.2f}x",
        holds=last / first <= _FLAT,
    )


def _times(figure: Figure) -> str:
    return f"{figure.median:.2f}x ({figure.low:.2f} to {figure.high:.2f})"
