"""What a run found out, as text: tables with ratios, then a line per target."""

from collections.abc import Iterator, Sequence

from benchmarks.faults import HEARTBEAT
from benchmarks.figures import Figure
from benchmarks.growth import PastHits
from benchmarks.peers import Peer
from benchmarks.peers.laps import IN_A_ROW, PLAIN, ROW_OF
from benchmarks.results import Results
from benchmarks.rounds import PLAIN_WAY, Table
from benchmarks.targets import verdicts


def report(results: Results) -> str:
    """Return all of it, in Markdown."""
    parts = [
        f"{results.machine}, {results.started}. {_HOW}",
        *(part for table in results.tables for part in (f"### {_capital(table.title)}", _table(table))),
        *_counts(results),
        *_instructions(results),
        *_phases(results),
        *_growth(results),
        *_crowds(results),
        *_faults(results),
        *_peers(results),
        *(f"Left out: {what}" for what in results.failed),
        "### Targets",
        "\n".join(
            f"- {_HOLDS[verdict.holds]}: {verdict.target}"
            + ("" if verdict.holds is None else f": {verdict.measured}")
            for verdict in verdicts(results)
        ),
    ]
    return "\n\n".join(parts) + "\n"


_HOW = (
    "Medians over the rounds, lowest and highest in brackets; ratios are taken inside each round. "
    "Server, worker and the driver that starts the jobs are processes of their own."
)
_ABSENT = "not measured"
_HOLDS = {True: "holds", False: "does not hold", None: _ABSENT}


def _table(table: Table) -> str:
    rows = [
        (
            name,
            _figure(table.figure(name, "latency"), 1e3),
            _ratio(table.ratio(name, "latency")),
            f"{table.figure(name, 'rate').median:.1f}",
            _ratio(table.ratio(name, "rate")),
            f"{table.figure(name, 'worker').median * 1e3:.1f}",
            f"{table.figure(name, 'server').median * 1e3:.1f}",
            f"{table.figure(name, 'driver').median * 1e3:.1f}",
            _ratio(table.ratio(name, "cpu")),
            f"{table.figure(name, 'others').median:.1f}",
        )
        for name in table.laps
    ]
    heads = (
        "per call",
        "ms",
        f"of {PLAIN_WAY.name}",
        "calls/s",
        "of plain",
        "CPU ms: worker",
        "server",
        "driver",
        "all, of plain",
        "cores busy elsewhere",
    )
    return _markdown(heads, rows)


def _counts(results: Results) -> Iterator[str]:
    if not results.counts:
        return
    yield "### Counted, for a job of one call"
    heads = (
        "",
        "events: job",
        "key",
        "each further call",
        "workflow tasks",
        "activity tasks",
        "state written: job",
        "key",
        "requests to the server",
        "history bytes: job",
        "key",
    )
    yield _markdown(
        heads,
        [
            (
                count.name,
                str(count.job_events),
                f"{count.key_events:g}",
                "" if count.further_events is None else f"{count.further_events:.1f}",
                f"{count.workflow_tasks:g}",
                str(count.activity_tasks),
                str(count.job_transitions),
                f"{count.key_transitions:g}",
                f"{sum(count.requests.values()):.1f}",
                f"{count.job_bytes:,}",
                f"{count.key_bytes:,.0f}",
            )
            for count in results.counts
        ],
    )
    yield "Joined: what the call adds to the key where calls join one after another."


def _instructions(results: Results) -> Iterator[str]:
    if not results.instructions:
        return
    yield "### Instructions of the Python part, by valgrind"
    yield _markdown(
        ("", "instructions"), [(each.part, f"{each.instructions:,}") for each in results.instructions]
    )


def _phases(results: Results) -> Iterator[str]:
    if not results.phases:
        return
    yield "### One miss on its own, step by step"
    yield _markdown(
        ("", "whose", "from, ms", "to, ms", "takes, ms"),
        [
            (
                phase.name,
                phase.whose,
                f"{phase.begins * 1e3:.1f}",
                f"{phase.ends * 1e3:.1f}",
                f"{(phase.ends - phase.begins) * 1e3:.1f}",
            )
            for phase in results.phases
        ],
    )


def _growth(results: Results) -> Iterator[str]:
    if results.past_hits:
        yield "### A hit, by the number of past hits on its key"
        yield _markdown(
            ("past hits", "a hit, ms", "on a fresh key, ms", "ratio"),
            [
                (
                    f"{point.at:,}",
                    f"{point.hot * 1e3:.1f}",
                    f"{point.fresh * 1e3:.1f}",
                    f"{point.hot / point.fresh:.2f}x",
                )
                for point in _thinned(results.past_hits)
            ],
        )
    if held := results.keys_held:
        yield "### A hit, by the number of keys held"
        yield _markdown(
            ("keys held", "a hit, ms", "local activity beside it, ms", "ratio"),
            [
                (
                    f"{point.keys:,}",
                    _figure(Figure.of(point.hits), 1e3),
                    _figure(Figure.of(point.floors), 1e3),
                    _ratio(Figure.of_ratios(point.hits, point.floors)),
                )
                for point in held.points
            ],
        )
        yield f"The server's database grows by {held.disk / 1e3:.1f} KB per key, the jobs that ask included."
    if results.sizes:
        yield "### By the size of argument and result, each; five calls in a row"
        yield _markdown(
            ("bytes", "plain, ms", "miss, ms", "hit, ms", "history of the key, bytes"),
            [
                (
                    f"{sized.size:,}",
                    f"{sized.plain * 1e3:.1f}",
                    f"{sized.miss * 1e3:.1f} ({sized.miss / sized.plain:.2f}x)",
                    f"{sized.hit * 1e3:.1f} ({sized.hit / sized.plain:.2f}x)",
                    f"{sized.key_bytes:,}",
                )
                for sized in results.sizes
            ],
        )


def _crowds(results: Results) -> Iterator[str]:
    if found := results.callers:
        yield f"### {found.callers:,} callers of one key at once"
        yield _markdown(
            (
                "",
                "plain jobs, s",
                "callers of one key, s",
                "ratio",
                "CPU, of plain",
                "joined",
                "executions",
                "cores busy elsewhere: plain",
                "one key",
            ),
            [
                (
                    name,
                    f"{found.callers / plain.rate:.1f}",
                    f"{found.callers / one.lap.rate:.1f}",
                    f"{ratio:.2f}x",
                    f"{one.lap.cpu / plain.cpu:.2f}x",
                    f"{one.joined:,}",
                    str(one.executions),
                    f"{plain.others:.1f}",
                    f"{one.lap.others:.1f}",
                )
                for name, crowd in (
                    ("the effect does nothing", found.at_once),
                    ("the effect ends when all wait for it", found.gathered),
                )
                for plain, one, ratio in zip(found.plain, crowd, found.ratios(crowd), strict=True)
            ],
        )
    if results.new_keys:
        yield "### More new keys at once than activity slots; all are there when the worker comes"
        yield _markdown(
            ("", "keys", "slots", "answered", "after, s"),
            [
                (found.name, str(found.keys), str(found.slots), str(found.answered), f"{found.seconds:.1f}")
                for found in results.new_keys
            ],
        )


def _faults(results: Results) -> Iterator[str]:
    if results.recoveries:
        yield (
            "### From `kill -9` inside the effect to the answer "
            f"({HEARTBEAT:g} s heartbeat, immediate restart)"
        )
        yield _markdown(
            ("", "sticky time-out of the job's worker, s", "s"),
            [
                (found.name, f"{found.sticky:g}", _figure(Figure.of(found.seconds)))
                for found in results.recoveries
            ],
        )


def _peers(results: Results) -> Iterator[str]:
    if not results.peers:
        return
    yield "### Peers, each against its own plain step"
    crowd = results.table(server="lifted", concurrency=50, calls=1)
    row = results.table(server="lifted", concurrency=1, calls=IN_A_ROW)
    ours = (
        "this project",
        _rate(crowd, PLAIN_WAY.name),
        *(f"{_rate(crowd, way)} ({_of_plain(crowd, way, 'rate')})" for way in ("miss", "hit")),
        *(_of_plain(row, way, "latency") for way in ("miss", "hit")),
    )
    yield _markdown(
        (
            "",
            "plain, calls/s, 50 at a time",
            "miss",
            "hit",
            f"a miss in a row of {IN_A_ROW}, of a plain step",
            "a hit",
        ),
        [ours, *map(_peer, results.peers)],
    )


def _peer(peer: Peer) -> Sequence[str]:
    if peer.skipped is not None:
        return (f"{peer.name}: skipped, {peer.skipped}", "", "", "", "", "")
    return (
        f"{peer.name} {peer.version}",
        f"{peer.figure(PLAIN, 'rate').median:.0f}",
        *(
            f"{peer.figure(way, 'rate').median:.0f} ({peer.ratio(way, 'rate').median:.2f}x)"
            for way in ("miss", "hit")
        ),
        *(f"{peer.ratio(ROW_OF + way, 'latency').median:.2f}x" for way in ("miss", "hit")),
    )


def _rate(table: Table | None, way: str) -> str:
    return _ABSENT if table is None or way not in table.laps else f"{table.figure(way, 'rate').median:.0f}"


def _of_plain(table: Table | None, way: str, what: str) -> str:
    return _ABSENT if table is None or way not in table.laps else f"{table.ratio(way, what).median:.2f}x"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [tuple(heads), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _figure(figure: Figure, factor: float = 1.0) -> str:
    return f"{figure.median * factor:.1f} ({figure.low * factor:.1f} to {figure.high * factor:.1f})"


def _ratio(figure: Figure) -> str:
    return f"{figure.median:.2f}x ({figure.low:.2f} to {figure.high:.2f})"


def _thinned(points: Sequence[PastHits]) -> list[PastHits]:
    """Return at most a dozen points, the first and the last among them."""
    step = max(1, (len(points) - 1) // 10)
    return [*points[:-1:step], points[-1]]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
