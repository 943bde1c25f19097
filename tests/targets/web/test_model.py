"""What the workers in JavaScript share: placement read off a log, and times from a clock that ticks."""

import json

import pytest

from tests.web import WEB, answers_of, needs_node, node

pytestmark = needs_node
SAID = "2026-01-01 [V:onnxruntime:, session_state.cc:1148 VerifyEachNodeIsAssignedToAnEp] "


def test_placement_is_read_from_lines_of_both_kinds() -> None:
    lines = [
        f"{SAID}Node placements",
        f"{SAID} Node(s) placed on [XnnpackExecutionProvider]. Number of nodes: 3",
        f"{SAID}  Conv (a)",
        f"{SAID}  Conv (b (c))",
        f"{SAID}  MaxPool (d)",
        f"{SAID} Node(s) placed on [CPUExecutionProvider]. Number of nodes: 1",
        f"{SAID}  Relu (e)",
        "Removing NodeArg 'All nodes'",
    ]
    (found,) = answers_of(WEB / "placement.mjs", "placement", [[lines]])
    assert found == {
        "nodes": {"XnnpackExecutionProvider": 3, "CPUExecutionProvider": 1},
        "operators": {"XnnpackExecutionProvider": {"Conv": 2, "MaxPool": 1}, "CPUExecutionProvider": {"Relu": 1}},
    }
    copies = [
        f"{SAID} Node(s) placed on [WebGpuExecutionProvider]. Number of nodes: 3",
        f"{SAID}  Conv (a)",
        f"{SAID}  MemcpyFromHost (Memcpy)",
        f"{SAID}  MemcpyToHost (Memcpy_token_2)",
    ]
    (found,) = answers_of(WEB / "placement.mjs", "placement", [[copies]])
    assert found == {
        "nodes": {"WebGpuExecutionProvider": 1},
        "operators": {"WebGpuExecutionProvider": {"Conv": 1}},
    }, "what is copied between providers is no node of the model"
    everything = f"{SAID} All nodes placed on [CPUExecutionProvider]. Number of nodes: 8"
    (found,) = answers_of(WEB / "placement.mjs", "placement", [[[everything]]])
    assert found == {"nodes": {"CPUExecutionProvider": 8}, "operators": {}}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, "wasm"),
        ({"provider": "WebGpuExecutionProvider", "provider_options": {}}, "webgpu"),
        (
            {"provider": "WebGpuExecutionProvider", "provider_options": {"preferredLayout": "NCHW"}},
            {"name": "webgpu", "preferredLayout": "NCHW"},
        ),
    ],
)
def test_the_provider_is_told_its_options_both_times_a_model_is_opened(
    told: dict[str, object], expected: object
) -> None:
    code = f"""
const {{ Asked }} = await import({json.dumps((WEB / "model.mjs").as_uri())});
const seen = [], session = {{ release: async () => {{}} }};
const InferenceSession = {{ create: async (_, options) => (seen.push(options.executionProviders), session) }};
const heard = async (work) => [await work(), [" All nodes placed on [X]. Number of nodes: 1"]];
const asked = new Asked({{ InferenceSession, env: {{ wasm: {{}} }} }}, heard, {{ tick_us: 5, block: 1 }});
await asked.open({{ threads: 1, ...{json.dumps(told)} }}, new Uint8Array());
console.log(JSON.stringify(seen));
"""
    assert json.loads(node(code)) == [[expected], [expected]]


@pytest.mark.parametrize(
    ("calls", "block", "tick_us", "expected"),
    [
        (4, 1, 0, [3000, 3000, 3000, 3000]),  # each call for itself
        (5, 2, 0, [3000] * 5),  # blocks of two, and one that is left
        (4, 4, 100_000, [25_000] * 4),  # a clock that has not moved yet: no less than a tick, shared out
    ],
)
def test_times_are_means_over_blocks_and_never_less_than_the_clock_can_tell(
    calls: int, block: int, tick_us: float, expected: list[float]
) -> None:
    code = f"""
const {{ Asked }} = await import({json.dumps((WEB / "model.mjs").as_uri())});
let now_ms = 0;
globalThis.performance = {{ now: () => now_ms }};
const asked = new Asked({{ Tensor: class {{}} }}, null, {{ tick_us: {tick_us}, block: {block} }});
asked.session = {{ run: async () => (now_ms += 3) }};
const header = {{ calls: {calls}, dtype: "<f4", shape: [1, 1], input: "x" }};
const bytes = await asked.time(header, new Uint8Array(4));
console.log(JSON.stringify([...new Float64Array(bytes.buffer)]));
"""
    assert json.loads(node(code)) == pytest.approx(expected)
