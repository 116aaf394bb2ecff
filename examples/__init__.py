"""The demo: `python worker.py demo`.

In reading order:

- `signups.jsonl`: sign-up events, as a webhook delivers them.
- `deliveries`: reading such a file.
- `dev_server`: a Temporal service for this machine.
- `demo`: a job for each delivery, and what came of it.
"""
