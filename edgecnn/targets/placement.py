"""Which provider runs which node: read from the session, held against what was asked for."""

from collections.abc import Mapping, Sequence

from edgecnn.errors import TargetError

CPU_PROVIDER = "CPUExecutionProvider"
#: What helps where a provider takes no node: most often it is an int8 model that was made for another.
RUNS_NONE = (
    "if it is int8, edgecnn quantize --for the provider (xnnpack and qnn take integers of their own); else run it on "
    "cpu, or change the layers it does not take"
)


def require_provider(
    nodes: Mapping[str, int],
    provider: str,
    allow_cpu_nodes: int,
    *,
    name: str,
    operators: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Refuse a session in which the provider that was asked for runs nothing, or others run more than was allowed.

    Args:
        nodes: how many each provider runs.
        provider: what was asked for.
        allow_cpu_nodes: how many the CPU may run in its place.
        name: what to call the model and the target in a message.
        operators: what the nodes of each provider are, where that is known.

    Raises:
        TargetError: it does.
    """
    if not nodes.get(provider):
        raise TargetError(
            f"{name}: {provider} runs no node; {_named(nodes, operators)}.",
            next_step=RUNS_NONE,
        )
    strangers = {other: count for other, count in nodes.items() if other != provider}
    if sum(strangers.values()) > allow_cpu_nodes or set(strangers) - {CPU_PROVIDER}:
        raise TargetError(
            f"{name}: {_named(strangers, operators)} in place of {provider}.",
            next_step=f"--allow-cpu-nodes {sum(strangers.values())} accepts that; or change layers it does not take",
        )


def _named(nodes: Mapping[str, int], operators: Mapping[str, Sequence[str]] | None) -> str:
    kinds = {name: f" ({', '.join(found)})" for name, found in (operators or {}).items()}
    told = [f"{name} runs {count}{kinds.get(name, '')}" for name, count in sorted(nodes.items())]
    return ", ".join(told) or "nothing runs"
