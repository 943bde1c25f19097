"""A web server for this machine alone: it stands by itself, for it also runs in Pythons without edgecnn.

It is bound to the loopback interface and answers only who addresses it there by name, so that no page from elsewhere
can read what it serves by giving its own name that address (DNS rebinding).
"""

import http.server
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")
#: Browsers run modules and compile WebAssembly only under these types.
MIME_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
#: With both, a page is isolated from other origins: it has threads, and a clock that ticks at 5 us, not at 100.
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageHandler(http.server.BaseHTTPRequestHandler):
    """Serves the files right in some folders, each under its prefix; no folder is listed, none is entered."""

    server: "PageServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send a file."""
        self._serve(body=True)

    def do_HEAD(self) -> None:
        """Send what would go before a file."""
        self._serve(body=False)

    def addressed_here(self) -> bool:
        """Tell whether it is addressed by a name of this machine; answer 403 if not."""
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in _NAMES:
            self.send_error(403, "this server is for its own machine")
        return name in _NAMES

    def send(self, data: bytes, mime_type: str, *, body: bool = True) -> None:
        """Send some bytes."""
        self.send_response(200)
        self.send_header("Content-Type", mime_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in (ISOLATION if self.server.isolated else {}).items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        """Say nothing: stderr is for what goes wrong."""

    def _serve(self, *, body: bool) -> None:
        if not self.addressed_here():
            return
        found = find(unquote(urlsplit(self.path).path), self.server.folders)
        if found is None:
            self.send_error(404)
        else:
            self.send(found.read_bytes(), MIME_TYPES.get(found.suffix, "application/octet-stream"), body=body)


class PageServer(http.server.ThreadingHTTPServer):
    """Serves in threads of its own until it is closed."""

    daemon_threads = True
    allow_reuse_address = False  # a port in use is an error, not a port shared

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        isolated: bool,
        port: int = 0,
        handler: type[PageHandler] = PageHandler,
    ) -> None:
        """Bind a port of the loopback interface.

        Args:
            folders: by prefix, such as ``/`` and ``/dist/``.
            isolated: whether pages are to be isolated from other origins.
            port: 0 for any that is free.
            handler: what answers.

        Raises:
            OSError: the port is in use, or may not be bound.
        """
        self.folders, self.isolated = dict(folders), isolated
        super().__init__((HOST, port), handler)

    @property
    def address(self) -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self.server_port}/"

    def start(self) -> None:
        """Answer from now on, in a thread."""
        threading.Thread(target=self.serve_forever, daemon=True).start()


def find(path: str, folders: Mapping[str, Path]) -> Path | None:
    """Return the file that a path of an address names, or None: nothing outside the folders, nothing hidden."""
    for prefix in sorted(folders, key=len, reverse=True):
        if not path.startswith(prefix):
            continue
        name = path[len(prefix) :] or "index.html"
        if name.startswith(".") or any(letter in name for letter in "/\\\0"):
            return None
        place = folders[prefix] / name
        return place if place.is_file() else None
    return None
