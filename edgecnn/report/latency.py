"""Latency for the terminal: tables, the verdict in words, and what disturbed the measurement."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.latency import Latency, LatencyResult, Noise, Startup
from edgecnn.bundle.mlperf_tiny import TinyResult
from edgecnn.report.text import model_sentences, new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_STYLE = {"faster": "green", "same": "yellow", "slower": "bold red"}


def latency_items(results: Sequence[LatencyResult]) -> "list[RenderableType]":
    """Return all that is to be said of latency: times, costs, verdicts and noise."""
    items: list[RenderableType] = [latency_table(results), *map(plain, model_sentences(results))]
    if any(result.float_startup for result in results):
        items.append(cost_table(results))
    for result in results:
        items.append(latency_sentence(result))
        if result.precision is not None:
            items.append(precision_sentence(result))
        if result.noise is not None:
            items += noise_items(place(result), result.noise)
    return items


def place(result: LatencyResult) -> str:
    """Return where and how a result was measured; of the usual, only where."""
    return ", ".join([result.target, *([] if result.int8_model == "int8.onnx" else [result.int8_model]), *_way(result)])


def _way(result: LatencyResult) -> list[str]:
    words: list[str] = []
    words += [] if result.batch == 1 else [f"batch {result.batch}"]
    words += [] if result.threads == 1 else [f"{result.threads} threads"]
    words += [] if result.through == "run" else [result.through]
    return words


def latency_table(results: Sequence[LatencyResult]) -> "Table":
    """Return latency, float beside int8."""
    columns = ("target", "batch", "thr", "", "p50", "p90", "p99", "ratio", "95% interval")
    table = new_table("Latency, microseconds; ratio is float / int8", *columns)
    table.collapse_padding = True
    for result in results:
        target = result.target if result.through == "run" else f"{result.target}, {result.through}"
        row = (plain(target), str(result.batch), str(result.threads))
        for name, latency in (("float", result.float_latency), ("int8", result.int8_latency)):
            times = (f"{latency.p50_us:.1f}", f"{latency.p90_us:.1f}", f"{latency.p99_us:.1f}")
            if name == "float":
                table.add_row(*row, name, *times)
            else:
                ratio = f"{result.speedup.median:.3f}"
                interval = f"{result.speedup.low:.3f}..{result.speedup.high:.3f}"
                table.add_row("", "", "", name, *times, ratio, interval)
    return table


def cost_table(results: Sequence[LatencyResult]) -> "Table":
    """Return throughput and what a model costs beside its running: files, loading, memory of a fresh process."""
    columns = ("", "", "images/s", "max us", "load ms", "first us", "memory", "of it model", "file bytes")
    table = new_table("Throughput, start and size; memory in MB, of a fresh process", *columns)
    table.collapse_padding = True
    for result in results:
        for name, latency, startup in (
            ("float", result.float_latency, result.float_startup),
            ("int8", result.int8_latency, result.int8_startup),
        ):
            head = ", ".join([result.target, *_way(result)]) if name == "float" else ""
            table.add_row(plain(head), name, *_speed_cells(latency), *_startup_cells(startup))
    return table


def _speed_cells(latency: Latency) -> tuple[str, str]:
    rate, worst = latency.images_per_second, latency.max_us
    return "" if rate is None else f"{rate:,.0f}", "" if worst is None else f"{worst:,.0f}"


def _startup_cells(startup: Startup | None) -> tuple[str, ...]:
    if startup is None:
        return ("",) * 5
    peak, runtime = startup.peak_memory_bytes, startup.runtime_memory_bytes
    known = peak is not None and runtime is not None
    return (
        f"{startup.load_us / 1e3:.2f}",
        f"{startup.first_us:.0f}",
        "unknown" if peak is None else f"{peak / 1e6:.1f}",
        f"{((peak or 0) - (runtime or 0)) / 1e6:.1f}" if known else "unknown",
        f"{startup.size_bytes:,}",
    )


def latency_sentence(result: LatencyResult) -> "Text":
    """Return the verdict in words."""
    from rich.text import Text

    ratio = result.speedup.median
    words = {
        "faster": f"int8 is {ratio:.2f} times as fast as float here.",
        "same": "int8 and float are equally fast here, within the noise.",
        "slower": f"int8 is SLOWER than float here: it takes {1 / ratio:.2f} times as long. Ship float on this target, "
        "unless the smaller file is what you need; edgecnn tune looks for a faster int8.",
    }
    tuned = result.int8_session != "default"
    how = f" int8 was opened with session options {printable(result.int8_session)}, as tuning found." if tuned else ""
    return Text(f"{place(result)}: {words[result.verdict]}{how}", style=_STYLE[result.verdict])


def precision_sentence(result: LatencyResult) -> "Text":
    """Return whether the interval became as narrow as was asked."""
    from rich.text import Text

    wanted = result.precision
    if wanted is None:
        return Text("")
    width = f"the interval is {wanted.found:.2%} wide after {result.pairs} pairs"
    if wanted.met:
        return Text(f"{place(result)}: {width}, as narrow as asked ({wanted.asked:.2%}).")
    return Text(
        f"{place(result)}: too noisy to answer: {width}; {wanted.asked:.2%} was asked for, "
        f"within {wanted.max_seconds:g} s.",
        style="bold red",
    )


def noise_items(where: str, noise: Noise) -> "list[RenderableType]":
    """Return what the machine did meanwhile, and a warning for each figure that is too high."""
    from rich.text import Text

    lines: list[RenderableType] = [plain(f"{where}: machine: {noise_line(noise)}")]
    return lines + [Text(f"{where}: DISTURBED: {printable(warning)}", style="yellow") for warning in noise.warnings]


def noise_line(noise: Noise) -> str:
    """Return the figures of a noise record in one line."""
    words = [f"{noise.seconds:.1f} s", f"same arithmetic varied by {noise.spin_variation:.1%}"]
    if noise.frequency_low_mhz is not None and noise.frequency_high_mhz is not None:
        words.append(f"{noise.frequency_low_mhz:.0f} to {noise.frequency_high_mhz:.0f} MHz")
    if noise.other_load is not None and noise.steal is not None:
        words.append(f"others took {noise.other_load:.1%} and a hypervisor {noise.steal:.1%} of the CPU")
    if noise.involuntary_switches is not None:
        words.append(f"switched out {noise.involuntary_switches / noise.seconds:.0f} times a second")
    if noise.unsteady_sessions:
        words.append(
            f"{noise.unsteady_sessions} of {noise.sessions} sessions not settled when their warm-up was cut off"
        )
    words.append(f"trend {noise.trend.change:+.1%} (p {noise.trend.p_value:.2f})")
    return ", ".join(words)


def protocol_items(result: TinyResult) -> "list[RenderableType]":
    """Return both models by MLPerf Tiny's rules, and where those were not followed."""
    from rich.text import Text

    columns = ("", "inferences/s", "slowest window", "fastest", f"top-1 of {result.n_balanced}", f"of {result.n_full}")
    table = new_table(f"MLPerf Tiny, median of {len(result.float_model.windows)} windows", *columns)
    for name, model in (("float", result.float_model), ("int8", result.int8_model)):
        table.add_row(
            name,
            f"{model.inferences_per_second:,.1f}",
            f"{min(model.windows):,.1f}",
            f"{max(model.windows):,.1f}",
            f"{model.balanced_top1:.2%}",
            f"{model.full_top1:.2%}",
        )
    items: list[RenderableType] = [table]
    items += [Text(f"NOT according to the protocol: {one}.", style="bold red") for one in result.departures]
    return items + noise_items(result.target, result.noise)


def printable(text: str) -> str:
    """Return text of a stranger's file without what moves a terminal's cursor."""
    return "".join(character for character in text if character.isprintable())
