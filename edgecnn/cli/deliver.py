"""``edgecnn report``, ``package`` and ``demo-page``: what is handed on, for people, for a device and for a browser."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn.cli.output import show_made, terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.options import AllowCpuNodes, Bundle, Cache, Data, Force, Json

if TYPE_CHECKING:
    from edgecnn.pipeline.package import Package

PageFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder to write. Default: demo-page.", show_default=False)
]
Serve = Annotated[bool, typer.Option("--serve", help="Also serve it on this machine alone, until Ctrl-C.")]
Port = Annotated[int, typer.Option("--port", help="For --serve; 0 takes any that is free.")]
Samples = Annotated[
    int | None, typer.Option("--samples", help="Test pictures on the page. Default: one a class, up to ten.")
]
PackageTarget = Annotated[str, typer.Option("--for", help="What it is to run on. See: edgecnn targets.")]
PackageFolder = Annotated[
    Path | None, typer.Option("--out", help="The folder to write. Default: BUNDLE-for-TARGET beside the bundle.")
]


def report(bundle: Bundle = None, json: Json = False) -> None:
    """Write report.md from the manifest."""
    from edgecnn.pipeline.report import write_report

    show_made(write_report(options=stage_options(bundle)), json)


def demo_page(
    bundle: Bundle = None,
    out: PageFolder = None,
    serve: Serve = False,
    port: Port = 8000,
    samples: Samples = None,
    data: Data = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Write a page that runs float and int8 in any browser."""
    from edgecnn.pipeline.demo_page import DEFAULT_FOLDER, page_server, write_demo_page
    from edgecnn.report.demo_page import demo_page_items
    from edgecnn.report.views import demo_page_view

    options = stage_options(bundle, data, cache)
    page = write_demo_page(folder=out or DEFAULT_FOLDER, samples=samples, options=options)
    server = page_server(page.folder, port=port) if serve else None
    address = server.address if server else None
    if json:
        show_json(demo_page_view(str(page.folder), str(page.bundle), page.files, page.samples, address))
    else:
        terminal.show(*demo_page_items(str(page.folder), page.size_bytes, page.samples, address))
    if server is not None:
        sys.stdout.flush()
        with server, contextlib.suppress(KeyboardInterrupt):  # how one leaves it
            server.serve_forever()


def package(
    bundle: Bundle = None,
    data: Data = None,
    target: PackageTarget = "cpu",
    out: PackageFolder = None,
    allow_cpu_nodes: AllowCpuNodes = None,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a folder for one target: models, expected answers, and programs that check them."""
    from edgecnn.pipeline.package import package as make_package

    options = stage_options(bundle, data, cache, force)
    _show_package(make_package(target_name=target, out=out, allow_cpu_nodes=allow_cpu_nodes, options=options), json)


def _show_package(made: "Package", json: bool) -> None:
    from edgecnn.report.package import PackageFigures, package_items, package_view

    found = PackageFigures(
        folder=str(made.folder),
        target=made.target,
        files=made.files,
        tolerances=made.tolerances,
        conversion=made.conversion,
        checked=made.checked,
        notes=made.notes,
    )
    if json:
        show_json(package_view(found))
    else:
        terminal.show(*package_items(found))
