"""Jobs and keys on real servers, in this process.

Jobs and activities that one test file alone needs stand in it, or where they are many beside it:

- `failures`: failures of every shape, and a job that looks at them closely.
- `refusals`: calls that cannot be carried out.
- `values`: activities of every kind, results of every type.
- `awkward`: what cannot work, or only just does.
- `interceptors`: interceptors of the user's own, on the way of a call out of its job.
"""
