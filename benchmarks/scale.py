"""How much of everything a run does: the whole, or the core of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rounds import (
    BY_HAND,
    CHILD_HIT,
    CORE,
    GATHERED,
    HIT,
    JOINED,
    LOCAL_WAY,
    MISS,
    PLAIN_WAY,
    READING_WAY,
    REQUESTS,
    WRAPPER_HIT,
    Effort,
    Way,
    gathered,
    in_a_row,
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything is run. A part of which there is none is left out."""

    lifted: Sequence[tuple[Sequence[Way], Effort]]
    """Tables of ways on the dev server with its queue polls let go."""
    stock: Sequence[tuple[Sequence[Way], Effort]] = ()
    """The same on the dev server as it comes."""
    count_by_hand: bool = False
    """Whether events, tasks and requests of the ways written by hand are counted too."""
    misses: int
    """Misses from which the timeline is made."""
    past_hits: int
    """Hits on one key, one after the other."""
    keys: int = 0
    """Keys held, in the end, on a server of their own."""
    key_steps: int = 1
    """Steps in which they come to be held; hits are timed before the first and after each."""
    key_samples: int = 1
    """Times at which a hit and its floor are measured after each step."""
    callers: int = 0
    """Callers of one key at once."""
    caller_rounds: int = 1
    """Times at which they are measured, each beside as many plain jobs."""
    sizes: Sequence[int] = ()
    """Bytes of argument and result."""
    trials: int
    """Workers killed for each way of calling and each sticky time-out."""
    stickies: Sequence[float]
    """Sticky queue time-outs of the killed worker, in seconds."""
    new_keys: int = 0
    """New keys at once. Their worker has half as many activity slots."""
    new_keys_patience: float = 0.0
    """Seconds for which they are waited for."""
    instructions: bool = False
    """Whether valgrind counts instructions, if it is there."""
    peer_rounds: int
    """Rounds of every peer, besides one that does not count."""
    peer_jobs: int
    """Jobs of one call that a peer runs for each way in each round."""


_ROWS = tuple(
    in_a_row(way) for way in (PLAIN_WAY, LOCAL_WAY, READING_WAY, HIT, MISS, REQUESTS, WRAPPER_HIT, CHILD_HIT)
)
_GATHERED = tuple(
    (tuple(gathered(way, calls) for way in (PLAIN_WAY, MISS, REQUESTS)), calls) for calls in GATHERED
)
_ALL = (*CORE, *BY_HAND)
_CROWDED = (PLAIN_WAY, MISS, HIT, JOINED, *BY_HAND)
"""Without further floors: at 200 at a time each way takes up to half a minute a round."""

QUICK = Scale(
    lifted=(
        (_ROWS[:6], Effort(concurrency=1, jobs=1, rounds=3, budget=15)),
        (CORE, Effort(concurrency=1, jobs=6, rounds=3, budget=10)),
        (_CROWDED[:4], Effort(concurrency=50, jobs=50, rounds=3, budget=20)),
        (_GATHERED[0][0], Effort(concurrency=1, jobs=1, rounds=2, budget=20)),
    ),
    misses=10,
    past_hits=500,
    trials=1,
    stickies=(1.0,),
    peer_rounds=2,
    peer_jobs=100,
)
"""Two to three minutes."""

FULL = Scale(
    lifted=(
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=5, budget=60)),
        (_ALL, Effort(concurrency=1, jobs=8, rounds=7, budget=45)),
        (_ALL, Effort(concurrency=50, jobs=50, rounds=5, budget=180)),
        (_CROWDED, Effort(concurrency=200, jobs=200, rounds=2, budget=90)),
        *((ways, Effort(concurrency=1, jobs=1, rounds=3, budget=calls / 10)) for ways, calls in _GATHERED),
    ),
    stock=(
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=2, budget=40)),
        (_ALL, Effort(concurrency=1, jobs=5, rounds=3, budget=30)),
        (_ALL, Effort(concurrency=50, jobs=50, rounds=2, budget=60)),
        (_CROWDED, Effort(concurrency=200, jobs=200, rounds=1, budget=60)),
    ),
    count_by_hand=True,
    misses=25,
    past_hits=3_000,
    keys=1_500,
    key_steps=3,
    key_samples=8,
    callers=1_000,
    caller_rounds=2,
    sizes=(0, 10_000, 100_000, 500_000),
    trials=2,
    stickies=(1.0, 10.0),
    new_keys=200,
    new_keys_patience=45.0,
    instructions=True,
    peer_rounds=3,
    peer_jobs=200,
)
"""Below 35 minutes on two quiet cores, with three peers."""
