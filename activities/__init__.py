"""The side effects of the jobs: a module or folder per service, with its input, transports and settings.

In reading order:

- `attempt`: what an activity knows of the call it carries out, and how it shows that it is alive.
- `errors`: what a provider answers, as errors that Temporal retries or does not.
- `settings`: what the settings of all transports share; `folder`: what most transports without a service use.
- `payments`: into a ledger on disk, or through Stripe.
- `email`: into an outbox on disk, through Resend, or through a mail server, whose folder of sent mail says
  what it took.
- `slack`, `github`, `sms`, `webhook`, `objects`, `responses`, `database`: one service each.
- `services`: all of them together, as the worker's settings (`worker_settings`) choose.

`docs/integrations.md` says what each guarantees.
"""
