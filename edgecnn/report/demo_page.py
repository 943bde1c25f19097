"""What is said of a demo page that was written."""


def demo_page_items(folder: str, size_bytes: int, samples: int, address: str | None) -> list[str]:
    """Return lines: where the page is, what it takes, and how to see it."""
    shown = f", {samples} test pictures" if samples else ""
    lines = [f"page: {folder} ({size_bytes / 1e6:.1f} MB{shown})"]
    if address is None:
        lines.append("see it here: edgecnn demo-page --serve; or put the folder on any static web server")
    else:
        lines.append(f"serving it on this machine alone: {address} (Ctrl-C ends it)")
    return lines
