"""The corpus of recorded histories: where it lies, and how it is read."""

from pathlib import Path

from temporalio.client import WorkflowHistory

HISTORIES = Path(__file__).parent / "histories"
"""What jobs and keys went through, of this version and of those before."""
DIVERGED = Path(__file__).parent / "diverged"
"""What other code might have written."""


def load(path: Path) -> WorkflowHistory:
    """Return a recorded history."""
    return WorkflowHistory.from_json(path.stem, path.read_text())
