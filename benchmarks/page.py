"""The page `docs/performance.md`: its figures, between two marks, and its pictures are a run's."""

import shutil
from pathlib import Path

from benchmarks.pictures import PICTURES

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


def refresh(text: str, pictures: Path) -> None:
    """Put a report into the page, and the pictures beside it.

    Raises:
        ValueError: The page has no marks.
    """
    page = PAGE.read_text()
    head, begin, rest = page.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        message = f"{PAGE.name} has no marks {_BEGIN} and {_END}"
        raise ValueError(message)
    PAGE.write_text(f"{head}{_BEGIN}\n\n{text}\n{_END}{tail}")
    images = PAGE.parent / "img"
    images.mkdir(exist_ok=True)
    for name in PICTURES:
        if (pictures / name).is_file():
            shutil.copy(pictures / name, images / name)
