"""What tests of several tiers share, in reading order.

- `waiting`: until what must come has come.
- `servers`: a Temporal server, real or one that skips time, and clients of it.
- `histories`: what a history says, and whether it replays.
- `effects`: activities whose effects outlive every worker.
- `scripts`: jobs that make the calls that a test lists.
- `ground`: one test's own part of a server, with workers, effects and jobs. Most tests begin here.
- `messages`: messages to a key, as claims of jobs send them that are not there.
- `ends`: how jobs end: well, badly, or never.
- `codecs`: a payload codec that encrypts, and one that binds payloads to their workflow.
- `faults`: pushes that are lost, reads that fail.
"""
