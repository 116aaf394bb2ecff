"""What runs in an operator's process: keys seen from outside, and the command line over them.

- `keys`: `DedupeKeys`; `listing` finds keys, `view` puts a record into words; `forget` drops one, `resolve`
  says what became of one that is held, `retry` executes it again.
- `job`: the calls of one job, and how each was answered.
- `cli`: the commands that look at keys, `changes` those that change them; `options` is what they share, and
  `output` what they print.
"""
