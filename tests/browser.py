"""A headless Chromium of this machine, driven by Playwright: what a page looks like, tells screen readers, and does."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """One page at a time. Skips the test where there is no Chromium or no Playwright."""

    def __init__(self) -> None:
        self._program = next((found for n in _NAMES if (found := shutil.which(n))), None)
        if self._program is None:
            pytest.skip("no Chromium is installed")
        self._api = pytest.importorskip("playwright.sync_api")

    def __enter__(self) -> Browser:
        self._ending = ExitStack()
        playwright = self._ending.enter_context(self._api.sync_playwright())
        self._chromium = playwright.chromium.launch(
            executable_path=self._program, args=["--no-sandbox", "--disable-gpu"], timeout=60_000
        )
        self._ending.callback(self._chromium.close)
        self._pages: dict[tuple[bool, bool], Any] = {}
        self.errors: list[str] = []
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ending.close()

    def open(self, page: Path, width: int = 390, height: int = 844, dark: bool = False, print_: bool = False) -> float:
        """Shows ``page``; milliseconds until its script has run."""
        phone = width < 600
        if (phone, dark) not in self._pages:
            context = self._chromium.new_context(
                is_mobile=phone, has_touch=phone, offline=True, color_scheme="dark" if dark else "light"
            )
            opened = self._pages[phone, dark] = context.new_page()
            opened.on("pageerror", lambda error: self.errors.append(str(error)))
            opened.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self._page = self._pages[phone, dark]
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.emulate_media(media="print" if print_ else "screen")
        self.errors.clear()
        self._page.goto(page.resolve().as_uri(), wait_until="load", timeout=120_000)
        return float(self.run("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"))

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self._page.evaluate(script)

    def press(self, key: str) -> None:
        self._page.keyboard.press("Space" if key == " " else key)

    def tap(self, selector: str) -> None:
        """A finger on the first element that ``selector`` finds, at its middle."""
        self._page.locator(selector).first.tap(timeout=10_000)

    def picture(self, path: Path, whole: bool = False) -> Path:
        self._page.screenshot(path=path, full_page=whole)
        return path

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader is told: role, name and whether it can be focused, in reading order."""
        session = self._page.context.new_cdp_session(self._page)
        out = []
        for node in session.send("Accessibility.getFullAXTree")["nodes"]:
            if node.get("ignored"):
                continue
            properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
            out.append({"role": node["role"].get("value", ""), "name": (node.get("name") or {}).get("value", ""),
                        "focusable": bool(properties.get("focusable")), **properties})  # fmt: skip
        session.detach()
        return out

    def axe(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 A and AA and its best practices: impact, rule, first element; sorted."""
        self.run((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
        found = self.run("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return sorted(f"{v['impact']} {v['id']} x{len(v['nodes'])}: {v['nodes'][0]['html'][:160]}" for v in found)
