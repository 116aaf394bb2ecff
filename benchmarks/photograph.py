"""Photographs pages, in the benchmark's own environment.

    python benchmarks/photograph.py BROWSER [URL PICTURE WORDS]...

A page is ready once it shows the words.
"""

import sys
from importlib import import_module
from typing import Any

_VIEW = (1300, 820)


def main(browser: str, *pages: str) -> None:
    """Take the pictures."""
    width, height = _VIEW
    sync_api: Any = import_module("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        view = chromium.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        for url, picture, words in zip(pages[::3], pages[1::3], pages[2::3], strict=True):
            view.goto(url)
            view.get_by_text(words).first.wait_for(timeout=20_000)
            view.wait_for_timeout(3_000)  # until what moves has come to rest
            view.screenshot(path=picture)
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
