"""The side effects of the jobs: one file per service.

In reading order:

- `attempt`: what an activity knows of the call it carries out, and how it shows that it is alive.
- `errors`: what a provider answers, as errors that Temporal retries or does not.
- `settings`: what the settings of all transports share.
- `email`: `send_email`, into an outbox on disk (`maildir`) or through Resend (`resend_account`).
- `payments`: `charge`, into a ledger on disk (`ledger`) or through Stripe.
"""
