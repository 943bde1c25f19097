"""What drives a Chromium: frames of :mod:`edgecnn.targets.worker` in, a page's answers out.

``python -S chromium_worker.py CHROMIUM DIST LIBRARY isolated|plain [FLAG...]``. It stands alone: of packages it has
only playwright. The page and its library come from a server on the loopback interface, and the profile is empty.
"""

import json
import os
import platform
import struct
import sys
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from serving import PageHandler, PageServer  # type: ignore[import-not-found]  # noqa: E402 - beside this file

PREFIX = struct.Struct("<4sIQ")
START_LIMIT_MS = 90_000
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Header = dict[str, Any]


class Bodies(PageHandler):  # type: ignore[misc]
    """Also hands the page a request's body, and takes its answer's."""

    request_body = b""
    answer_body = b""

    def do_GET(self) -> None:  # noqa: N802 - the library calls it so
        """Send the body of the request that the page was told of, or a file."""
        if self.path == "/body" and self.addressed_here():
            self.send(Bodies.request_body, "application/octet-stream")
        elif self.path != "/body":
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802
        """Keep the body of the page's answer."""
        if self.path != "/answer" or not self.addressed_here():
            return
        Bodies.answer_body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send(b"", "text/plain")


def main(chromium: str, dist: str, library: str, isolated: str, *flags: str) -> None:
    """Serve until stdin ends."""
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]

    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between the frames
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    server = PageServer({"/": HERE, "/dist/": Path(dist)}, isolated=isolated == "isolated", handler=Bodies)
    server.start()
    # Chromium refuses its sandbox to root; the page it opens is this file's own.
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        # Its profile is empty, and removed by playwright's own process even if this one is killed.
        browser = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=[*root, *FLAGS, *flags], timeout=START_LIMIT_MS
        )
        page = browser.new_page()
        page.set_default_timeout(START_LIMIT_MS)
        page.goto(f"{server.address}page.html?library={library}")
        page.wait_for_function("window.answered")
        _send(answers, _greeting(page.evaluate("greeted()"), browser.version))
        while (received := _receive(requests)) is not None:
            header, Bodies.request_body = received
            Bodies.answer_body = b""
            told = page.evaluate("header => answered(header)", header)
            _send(answers, told, Bodies.answer_body)
        browser.close()


def _greeting(page: Header, version: str) -> Header:
    from importlib.metadata import version as version_of

    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count() or 1,
        "cpu": _cpu(),
        "features": [],
        "isolated": page["isolated"],
        "gpu": page["gpu"],
        "versions": {
            "chromium": version,
            "onnxruntime-web": page["version"],
            "playwright": version_of("playwright"),
        },
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _send(stream: IO[bytes], header: Header, body: bytes = b"") -> None:
    text = json.dumps(header).encode()
    stream.write(PREFIX.pack(b"EDGE", len(text), len(body)) + text + body)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    _, header_bytes, body_bytes = PREFIX.unpack(prefix)
    return json.loads(stream.read(header_bytes)), stream.read(body_bytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
