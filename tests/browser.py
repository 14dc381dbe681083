"""A headless Chromium, driven through its devtools: what a page looks like, says to a screen reader, and does."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """One page at a time. Skips the test where there is no Chromium or no websocket client."""

    def __init__(self) -> None:
        self.name = next((n for n in _NAMES if shutil.which(n)), None)
        if self.name is None:
            pytest.skip("no Chromium is installed")
        self._websocket = pytest.importorskip("websocket")

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory(prefix="micromarket-", ignore_cleanup_errors=True)
        command = [str(self.name), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--remote-debugging-port=0", f"--user-data-dir={self._folder.name}", "--remote-allow-origins=*",
                   "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = Path(self._folder.name) / "DevToolsActivePort"
        for _ in range(300):
            if port.is_file() and port.read_text().strip():
                break
            time.sleep(0.1)
        else:
            pytest.skip("Chromium does not start here")
        number = port.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/json", timeout=30) as answer:
            pages = json.load(answer)
        address = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
        self._socket = self._websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._count = 0
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._folder.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == self._count:
                assert "error" not in said, said["error"]
                return dict(said["result"])
            if said.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(said["params"])[:400])
            if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.errors.append(said["params"]["entry"]["text"])

    def open(self, page: Path, width: int = 390, height: int = 844, dark: bool = False, print_: bool = False) -> float:
        """Shows ``page``; milliseconds until its script has run."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme], media="print" if print_ else "")
        self.errors.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        for _ in range(600):
            if self.run("document.readyState") == "complete" and self.run("location.protocol") == "file:":
                break
            time.sleep(0.02)
        return float(self.run("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"))

    def run(self, script: str) -> Any:
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": codes[key]}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path, whole: bool = False) -> Path:
        if whole:
            size = self.run("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 9000), "scale": 1}
            shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        else:
            shot = self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader is told: role, name and whether it can be focused, in reading order."""
        out = []
        for node in self.send("Accessibility.getFullAXTree")["nodes"]:
            if node.get("ignored"):
                continue
            properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
            out.append({"role": node["role"].get("value", ""), "name": (node.get("name") or {}).get("value", ""),
                        "focusable": bool(properties.get("focusable")), **properties})  # fmt: skip
        return out
