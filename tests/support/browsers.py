"""A real Chromium, installed where it is missing; and windows that tolerate no fault."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

Look = Literal["light", "dark", "phone"]

LOOKS: tuple[Look, ...] = ("light", "dark", "phone")

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_INSTALL = ("install", "--yes", "--quiet", "--no-install-recommends", "chromium")
_TELL_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error("policy violation: " + event.violatedDirective + " " + event.blockedURI));"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, which is installed first where it is missing."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_found() or _installed(), chromium_sandbox=False
        )
        yield browser
        browser.close()


def _found() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def _installed() -> str:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        pytest.fail(
            "The browser tests need Chromium, and only root can install it: run"
            " `apt-get install chromium` (or install Google Chrome), then `make test` again.",
            pytrace=False,
        )
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run([apt, *_INSTALL], env=environ, check=False).returncode != 0:
        subprocess.run([apt, "update", "--quiet"], env=environ, check=False)
        subprocess.run([apt, *_INSTALL], env=environ, check=True)
    path = _found()
    assert path is not None, "apt-get installed no Chromium"
    return path


@dataclass
class Visitor:
    """One person's browser window; whatever goes wrong in it is written down."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen to everything that a page may complain about."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.add_init_script(_TELL_VIOLATIONS)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)


@contextmanager
def visiting(browser: Browser, url: str, look: Look = "light") -> Iterator[Visitor]:
    """Open a window on the dashboard; it is an error if anything was complained about."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": 390, "height": 844}
        if look == "phone"
        else {"width": 1280, "height": 900},
        color_scheme="dark" if look == "dark" else "light",
    )
    visitor = Visitor(context.new_page())
    visitor.page.set_default_timeout(10_000)
    try:
        yield visitor
        assert visitor.faults == []
    finally:
        context.close()
