"""The demo, `python worker.py demo`, and two agents whose tools take effect once.

The demo, in reading order:

- `signups.jsonl`: sign-up events, as a webhook delivers them.
- `deliveries`: reading such a file.
- `dev_server`: a Temporal service for this machine.
- `demo`: a job for each delivery, and what came of it.
- `killed_order`: meanwhile, an order whose worker is killed in the middle of the charge.

The agents:

- `openai_agent` and `pydantic_agent`: `python -m examples.openai_agent` runs one.
- `agent_tool`: the tool of both. `killed_agent`: how they are run; their worker is killed in it.
"""
