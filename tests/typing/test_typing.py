"""Calls have the type of the activity, and mistakes are found before anything runs."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a type checker in the project's directory."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )


def test_mypy_gives_calls_the_type_of_their_activity() -> None:
    """Every `assert_type` holds under mypy --strict."""
    checked = check("mypy", "--strict", "tests/typing/calls.py")
    assert checked.returncode == 0, checked.stdout


def test_basedpyright_gives_calls_the_type_of_their_activity() -> None:
    """Every `assert_type` holds under basedpyright."""
    checked = check("basedpyright", "--pythonpath", sys.executable, "tests/typing/calls.py")
    assert checked.returncode == 0, checked.stdout


def test_mypy_finds_every_mistake(tmp_path: Path) -> None:
    """Each marked line, and no other, has the error it is marked with."""
    source = (HERE / "mistakes.py").read_text()
    expected = {
        (number, code)
        for number, line in enumerate(source.splitlines(), 1)
        for code in re.findall(r"# expect: ([a-z-]+)$", line)
    }
    assert len(expected) >= 10
    copy = tmp_path / "mistakes.py"
    copy.write_text(source.replace("# mypy: ignore-errors", "#"))
    checked = check("mypy", "--strict", "--no-error-summary", "--cache-dir=/dev/null", str(copy))
    found = {
        (int(number), code)
        for number, code in re.findall(r"mistakes\.py:(\d+): error: .*\[([a-z-]+)\]", checked.stdout)
    }
    assert found == expected, checked.stdout
