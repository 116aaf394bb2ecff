"""The pages name tests and files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    """Each test, each file of this project, and each link that a page names exists."""
    text = page.read_text()
    tests = re.findall(r"`(test_\w+)`", text)
    assert [name for name in tests if f"def {name}(" not in TESTS] == []
    folders = "tests|benchmarks|docs|examples|dedupe|workflows|activities"
    files = re.findall(rf"(?<![\w/])((?:{folders})/[\w./-]*\w)", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_pages_are_found() -> None:
    """The search above finds what it is to look for."""
    names = {page.name for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "reliability.md", "performance.md"} <= names
    assert sum(page.read_text().count("`test_") for page in PAGES) > 20
