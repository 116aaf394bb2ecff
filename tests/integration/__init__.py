"""Real servers and real processes, and what becomes of them when they are hurt; in reading order.

- `effect_file`: what activities did, in a file that outlives their processes; and the activities.
- `jobs`, `payments`: the jobs that call them, and a charge through Stripe's own SDK.
- `worker_process`: a worker with these jobs, as a program; `wire` lets it write as other versions do.
- `processes`, `fleet`: a process to kill, freeze and drain; and workers that share a task queue.
- `lasting_server`, `temporal_container`: servers to kill, pause and cut off.
- `records`, `fault_table`: what the service recorded, and the table of faults at the end of a run.
"""
