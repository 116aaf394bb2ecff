"""The jobs: one plain Temporal workflow a file.

Each says in its docstring how far its keys reach, what it does when a call fails, and why. In reading order:

- `user`: who jobs write to.
- `onboarding`: `OnboardingJob`, a welcome e-mail; project scope, a failure fails the job.
- `invoice`: `InvoiceJob`, a charge and its receipt; organization scope, the receipt may fail.
- `digest`: `DigestJob`, one digest a week; job scope, and a record that expires.
"""
