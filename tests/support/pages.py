"""The examples of the README and of the pages under `docs/`: each Python block names its file."""

import re

from tests.integration.processes import ROOT

_BLOCK = re.compile(r"^```python\n# (?P<name>\w+\.py)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

PAGES = "\n".join(page.read_text() for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))])
EXAMPLES = {block["name"]: block["code"] for block in _BLOCK.finditer(PAGES)}
"""By the names of their files."""
