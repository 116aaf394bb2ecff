"""Benchmarks: what a deduplication key costs, measured side by side.

`python -m benchmarks` starts servers and workers of its own on the loopback, compares ways of making the same
call in interleaved rounds on one server, and prints ratios: times jump on a shared machine, ratios inside
one run hardly do. In reading order:

- `jobs`: the job that every way of calling does, and the ways themselves.
- `worker`: the process that runs them; `processes` and `dev_server` start it and its server.
- `rounds`: rounds of jobs, one way after the other, and what they took.
- `counts`: what does not jitter: events, tasks, requests, bytes.
- `growth`: how the cost grows with keys, hits, callers and payload.
- `recovery`: from a worker killed inside an effect to the answer.
- `peers`: the same job on other systems, each against its own floor.
- `targets`, `report`, `plot`: what it comes to.
"""
