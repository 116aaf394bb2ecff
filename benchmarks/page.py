"""The page `docs/figures.md`, which is a run's report under a fixed head, and the pictures beside it."""

import shutil
from pathlib import Path

from benchmarks.pictures import PICTURES

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"

_HEAD = """\
# Figures

The report of one run. `make bench ARGS="--peers dbos,powertools,restate --page"` writes this page.
What the figures mean, and how to read them, is in [performance.md](performance.md).

"""


def refresh(text: str, pictures: Path) -> None:
    """Write the page around a report, and put the pictures beside it."""
    PAGE.write_text(_HEAD + text)
    images = PAGE.parent / "img"
    images.mkdir(exist_ok=True)
    for name in PICTURES:
        if (pictures / name).is_file():
            shutil.copy(pictures / name, images / name)
