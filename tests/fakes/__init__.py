"""Local providers: real HTTP servers on loopback that behave as the real ones document.

- `ledger`: what a provider did, and what it answered, on disk.
- `provider`: what the providers share: idempotency keys, faults and pauses on demand, the command line.
- `resend_server`: `POST /emails` of Resend.
- `stripe_server`: `POST /v1/payment_intents` of Stripe.
"""
