"""The server of pages: this machine alone, these folders alone, and the headers that a browser asks for."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from edgecnn.targets.web.serving import ISOLATION, PageServer, find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dist").mkdir()
    for name in ("index.html", "page.mjs", "model.onnx", "module.wasm", ".hidden", "dist/library.mjs"):
        (tmp_path / name).write_text(name)
    (tmp_path.parent / "secret").write_text("secret")
    return tmp_path


@pytest.fixture(params=[True, False], ids=["isolated", "plain"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[PageServer]:
    with PageServer({"/": folder, "/dist/": folder / "dist"}, isolated=request.param) as made:
        made.start()
        yield made
        made.shutdown()


def get(server: PageServer, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, Message, str]:
    """Return status, headers and body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)) as connection:
        connection.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.putheader("Connection", "close")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


@pytest.mark.parametrize(
    ("path", "mime_type", "text"),
    [
        ("/", "text/html; charset=utf-8", "index.html"),
        ("/page.mjs?library=x", "text/javascript; charset=utf-8", "page.mjs"),
        ("/module.wasm", "application/wasm", "module.wasm"),
        ("/model.onnx", "application/octet-stream", "model.onnx"),
        ("/dist/library.mjs", "text/javascript; charset=utf-8", "dist/library.mjs"),
    ],
)
def test_a_file_comes_with_the_type_that_browsers_run_it_under(
    server: PageServer, path: str, mime_type: str, text: str
) -> None:
    status, headers, body = get(server, path)
    assert (status, headers["Content-Type"], body) == (200, mime_type, text)
    for name, value in ISOLATION.items():
        assert headers[name] == (value if server.isolated else None)


def test_head_sends_no_body(server: PageServer) -> None:
    status, headers, body = get(server, "/page.mjs", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "8", "")


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/%2e%2e/secret", "/dist/../index.html", "/.hidden", "/dist", "/gone", "/a%00b", "/..%5csecret"],
)
def test_nothing_else_is_served(server: PageServer, path: str) -> None:
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example:80", "evil.example", "127.0.0.1.evil.example:8000", ""])
def test_who_does_not_address_this_machine_is_refused(server: PageServer, host: str) -> None:
    assert get(server, "/", host=host)[0] == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_both_names_of_this_machine_will_do(server: PageServer, name: str) -> None:
    assert get(server, "/", host=f"{name}:{server.server_port}")[0] == 200


def test_it_listens_on_the_loopback_interface_alone_and_shares_no_port(folder: Path) -> None:
    with PageServer({"/": folder}, isolated=True) as first:
        assert first.server_address[0] == "127.0.0.1"
        assert first.address == f"http://127.0.0.1:{first.server_port}/"
        with pytest.raises(OSError, match="in use"):
            PageServer({"/": folder}, isolated=True, port=first.server_port)
        assert first.socket.family == socket.AF_INET


def test_the_longest_prefix_decides(folder: Path) -> None:
    folders = {"/": folder, "/dist/": folder / "dist"}
    assert find("/dist/library.mjs", folders) == folder / "dist" / "library.mjs"
    assert find("/library.mjs", folders) is None
