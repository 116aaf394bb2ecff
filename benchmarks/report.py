"""What a run found out, as text: tables with ratios, then a line per target."""

from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure
from benchmarks.growth import PastHits
from benchmarks.peers.laps import PLAIN, ROW_OF
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
        *_faults(results),
        *_peers(results),
        *(f"Left out: {what}" for what in results.failed),
        "### Targets",
        "\n".join(
            f"- {_HOLDS[verdict.holds]}: {verdict.target}: {verdict.measured}"
            for verdict in verdicts(results)
        ),
    ]
    return "\n\n".join(parts) + "\n"


_HOW = (
    "Medians over the rounds, lowest and highest in brackets; ratios are taken inside each round. "
    "Server, worker and the driver that starts the jobs are processes of their own."
)
_HOLDS = {True: "holds", False: "does not hold", None: "not measured"}


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
                str(count.key_events),
                f"{count.further_events:.1f}",
                str(count.workflow_tasks),
                str(count.activity_tasks),
                str(count.job_transitions),
                str(count.key_transitions),
                f"{sum(count.requests.values()):.1f}",
                f"{count.job_bytes:,}",
                f"{count.key_bytes:,}",
            )
            for count in results.counts
        ],
    )


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
        yield "### By the number of keys held"
        yield _markdown(
            ("keys", "a hit, ms", "worker's memory, MB"),
            [
                (f"{point.at:,}", f"{point.seconds * 1e3:.1f}", f"{memory / 1e6:.0f}")
                for point, (_, memory) in zip(held.hits, held.memory, strict=True)
            ],
        )
        yield f"The server's database grows by {held.disk / 1e3:.1f} KB per key, the jobs that ask included."
    if results.callers:
        yield "### Many callers of one key at once"
        yield _markdown(
            ("callers", "plain jobs, s", "callers of one key, s", "ratio", "executions"),
            [
                (
                    f"{found.callers:,}",
                    f"{found.plain:.1f}",
                    f"{found.deduped:.1f}",
                    f"{found.deduped / found.plain:.2f}x",
                    str(found.executions),
                )
                for found in results.callers
            ],
        )
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


def _faults(results: Results) -> Iterator[str]:
    if results.recoveries:
        yield "### From `kill -9` inside the effect to the answer (3 s heartbeat, immediate restart)"
        yield _markdown(
            ("", "sticky time-out of the job's worker, s", "s"),
            [
                (found.name, f"{found.sticky:.0f}", _figure(Figure.of(found.seconds)))
                for found in results.recoveries
            ],
        )
    if results.crowds:
        yield "### More new keys at once than activity slots"
        yield _markdown(
            ("", "keys", "slots", "answered", "after, s"),
            [
                (crowd.name, str(crowd.keys), str(crowd.slots), str(crowd.answered), f"{crowd.seconds:.1f}")
                for crowd in results.crowds
            ],
        )


def _peers(results: Results) -> Iterator[str]:
    if not results.peers:
        return
    yield "### Peers, each against its own plain step"
    ours = results.table(server="lifted", concurrency=50, calls=1)
    row = results.table(server="lifted", concurrency=1, calls=100)
    rows: list[tuple[str, ...]] = []
    if ours is not None and row is not None:
        rows.append(
            (
                "this project",
                f"{ours.figure(PLAIN_WAY.name, 'rate').median:.0f}",
                f"{ours.figure('miss', 'rate').median:.0f} ({ours.ratio('miss', 'rate').median:.2f}x)",
                f"{ours.figure('hit', 'rate').median:.0f} ({ours.ratio('hit', 'rate').median:.2f}x)",
                f"{row.ratio('hit', 'latency').median:.2f}x",
            )
        )
    for peer in results.peers:
        if peer.skipped is not None:
            rows.append((f"{peer.name}: skipped, {peer.skipped}", "", "", "", ""))
            continue
        rows.append(
            (
                f"{peer.name} {peer.version}",
                f"{peer.figure(PLAIN, 'rate').median:.0f}",
                f"{peer.figure('miss', 'rate').median:.0f} ({peer.ratio('miss', 'rate').median:.2f}x)",
                f"{peer.figure('hit', 'rate').median:.0f} ({peer.ratio('hit', 'rate').median:.2f}x)",
                f"{peer.ratio(ROW_OF + 'hit', 'latency').median:.2f}x",
            )
        )
    yield _markdown(
        (
            "50 at a time",
            "plain, calls/s",
            "miss, calls/s",
            "hit, calls/s",
            "a hit in a row of 100, of a plain step",
        ),
        rows,
    )


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
