"""Debian's Chromium, without its own traffic, for tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip


@contextmanager
def chromium(profile: Path, *options: str) -> Iterator[Any]:
    """A browser with an empty profile of its own; the test is skipped, with the reason, where there is none."""
    from selenium import webdriver

    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = programs[0]
    for option in (*QUIET, *options, f"--user-data-dir={profile}"):
        chosen.add_argument(option)
    driver = webdriver.Chrome(options=chosen, service=webdriver.ChromeService(programs[1]))
    try:
        yield driver
    finally:
        driver.quit()
