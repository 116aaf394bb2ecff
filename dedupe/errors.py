"""Errors: everything that can be wrong with a deduplicated call, said once.

Each is an `ApplicationError` that is never retried: it fails the call, and with it the job, at once and
clearly, instead of failing a workflow task for ever. `message` is the template; it says what happened, to
which key, and what to do. The error's type on the wire is its class name, so `restore` gives it back.
"""

from typing import ClassVar

from temporalio.exceptions import ApplicationError

CANNOT_TELL = "UnknownOutcome"
"""Type of the error with which an activity says that it cannot tell whether its effect happened."""


class DedupeError(ApplicationError):
    """A deduplicated call cannot be carried out. The key, if it has a record, keeps it."""

    template: ClassVar[str] = "{reason}"

    def __init__(self, **facts: object) -> None:
        """Build the message from the template and the facts it names."""
        super().__init__(self.template.format(**facts), type=type(self).__name__, non_retryable=True)

    @classmethod
    def restore(cls, error: ApplicationError) -> "DedupeError | None":
        """Return the error that crossed the wire as `error`, or None where it is none of these."""
        for kind in _kinds(cls):
            if kind.__name__ == error.type:
                restored = kind.__new__(kind)
                ApplicationError.__init__(restored, error.message, type=error.type, non_retryable=True)
                return restored
        return None


class InvalidDeduplicationKeyError(DedupeError):
    """The deduplication key of a call is not valid."""

    template = "invalid deduplication key: {reason}."


class InvalidKeyspaceError(DedupeError):
    """The settings of the plugin cannot tell keys apart."""

    template = "invalid {field}: it is empty, or not text. Give one that tells this project from others."


class DeduplicationConflictError(DedupeError):
    """The key stands for something else: another activity, or with on_mismatch="raise" other arguments."""

    template = (
        "deduplication key {key!r} belongs to {recorded}, but this call is {called}. "
        "Use another key, or forget this one if it was used by mistake."
    )


class PluginMissingError(DedupeError):
    """The worker that runs the job has no DedupePlugin."""

    template = (
        "the deduplicated call of activity {activity!r} needs the DedupePlugin, which this worker lacks. "
        "Nothing was executed. Connect the worker's client with plugins=[DedupePlugin(...)]."
    )


class InvalidCallError(DedupeError):
    """The options or arguments of a deduplicated call cannot be used."""

    template = (
        "the call of activity {activity!r} with deduplication key {key!r} is invalid: {reason}. "
        "Nothing was executed."
    )


class KeyExecutingError(DedupeError):
    """The record of a key that is executing was to be dropped."""

    template = "deduplication key {key!r} is executing. Wait for its end, or drop it with force=True."


class KeyChangedError(DedupeError):
    """A record that was listed was to be dropped, and another one has taken its place."""

    template = "deduplication key {key!r} has changed since it was listed, and is kept. List it again."


class KeyHeldError(DedupeError):
    """The record of a key that is held was to be dropped."""

    template = (
        "deduplication key {key!r} is held, since nobody knows whether its effect happened: {reason}. "
        "Resolve it, or drop it with force=True."
    )


class KeyNotResolvedError(DedupeError):
    """A key was to be resolved that is not held, or is not over."""

    template = "deduplication key {key!r} was not resolved: {reason}."


class KeyNotRetriedError(DedupeError):
    """What a key stands for was to be executed again, and cannot be."""

    template = "deduplication key {key!r} was not retried: {reason}."


class ReconcileError(DedupeError):
    """The activity that is to find out what became of a held key's execution has not said so."""

    template = (
        "activity {activity!r}, which is to reconcile deduplication key {key!r}, returned no finding: does a "
        "worker without the plugin poll the same task queue? The key is still held."
    )


class UnprotectedExecutionError(DedupeError):
    """An activity has ended for a call that never held its key."""

    template = (
        "activity {activity!r} has ended for a call that does not hold deduplication key {key!r}: its effect "
        "may have happened unprotected, and it is not recorded. Does a worker without the plugin, and with a "
        "dynamic activity, poll the same task queue? Did somebody complete the activity by hand?"
    )


class UnreadableRecordError(DedupeError):
    """What is recorded under the key cannot be read."""

    template = (
        "the record of deduplication key {key!r} cannot be read: {reason}. The record is kept. Use the data "
        "converter and the activity's return type that it was written with."
    )


class UnknownOutcomeError(ApplicationError):
    """Raised by an activity that cannot tell whether its effect happened, such as when the connection breaks
    before the provider has answered.

    Where the call has `on_unknown="hold"`, or `reconcile`, the key is held, as after any attempt that ended
    without an answer. Otherwise it is attempted again by the call's retry policy, as after any error. An
    activity in another language raises an application failure of the type `UnknownOutcome`.
    """

    def __init__(self, message: str, *details: object) -> None:
        """Say what happened, such as "the provider did not answer"."""
        super().__init__(message, *details, type=CANNOT_TELL)


def _kinds(root: type[DedupeError]) -> list[type[DedupeError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]
