"""Benchmarks: what a deduplication key costs, measured side by side.

`python -m benchmarks` starts servers and workers of its own on the loopback, compares ways of making the same
call in interleaved rounds on one server, and prints ratios: times jump on a shared machine, ratios inside
one run hardly do. In reading order:

- `work`, `jobs`, `by_hand`: the job that every way of calling does, and the ways.
- `worker`: the process that runs them; `processes`, `dev_server` and `bench` start it and its server.
- `rounds`: rounds of jobs, one way after the other, and what they took.
- `counts`: what does not jitter: events, tasks, requests, bytes; `instructions`: those of the Python part.
- `timeline`: one miss, step by step; `phases`: what it spends its time on.
- `growth`: how the cost grows with hits, keys and payload.
- `crowds`: many callers of one key; more new keys than slots.
- `faults`: from a worker killed inside an effect to the answer.
- `peers`: the same job on other systems, each against its own floor.
- `scale`, `run`: how much of all this is run, and in which order.
- `figures`, `results`, `targets`, `report`, `pictures`, `plot`, `page`: what it comes to.

Beside the road: `environment`, what only pictures and peers need.
"""
