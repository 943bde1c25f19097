"""Models in Node: the worker with a library that is made up, and with the real one where it is set up."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import ExitCode, StageError, TargetError, UsageError
from edgecnn.targets import TARGETS, open_session, reference_session, running
from edgecnn.targets.native import CPU_PROVIDER
from edgecnn.targets.node import NODE_WASM, NODE_XNNPACK, WORKER, NodeRuntime
from edgecnn.targets.node_program import VERSION, own_node_missing
from edgecnn.targets.worker_session import WorkerSession
from tests.graphs import small_cnn
from tests.web import fake_library, needs_node, real_targets

DATA = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
TWO_PLACES = [
    "VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [XnnpackExecutionProvider]. Number of nodes: 1",
    "VerifyEachNodeIsAssignedToAnEp]   Conv (conv)",
    "VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2",
    "VerifyEachNodeIsAssignedToAnEp]   Relu (relu)",
]


def session(library: Path, *words: str, runtime: NodeRuntime = NODE_WASM, **changes: object) -> WorkerSession:
    told = {"model_name": "int8.onnx", "target": "wasm", "clock": "measured", "call_limit_s": 30.0, **changes}
    command = [str(shutil.which("node")), str(WORKER), str(library), *words]
    return WorkerSession(DATA, runtime=runtime, command=command, **told)  # type: ignore[arg-type]


@needs_node
def test_a_batch_goes_in_and_logits_come_out_without_chatter_between_the_frames(tmp_path: Path) -> None:
    with session(fake_library(tmp_path)) as there:
        expected = np.stack([X.mean((1, 2, 3)), np.zeros(4), np.zeros(4)], 1)
        np.testing.assert_allclose(there.run(X), expected, rtol=1e-5)
        np.testing.assert_allclose(there.run(X[1:2]), expected[1:2], rtol=1e-5)
        assert there.nodes_by_provider == {CPU_PROVIDER: 3}
        assert there.machine.versions["onnxruntime-web"] == "1.30.0"
        assert "node" in there.machine.versions
        assert there.machine.cpu.endswith(", WebAssembly in Node")


@needs_node
def test_a_large_batch_of_bytes_crosses_both_pipes_whole(tmp_path: Path) -> None:
    batch = np.random.default_rng(1).integers(0, 256, (3000, 3, 20, 20), np.uint8)
    with session(fake_library(tmp_path)) as there:
        np.testing.assert_allclose(there.run(batch)[:, 0], batch.mean((1, 2, 3)), rtol=1e-4)


@needs_node
def test_calls_are_timed_where_they_happen(tmp_path: Path) -> None:
    with session(fake_library(tmp_path, run="await new Promise((done) => setTimeout(done, 5));")) as there:
        times_us = there.time_calls(X[:1], 3)
    assert times_us.shape == (3,)
    assert (times_us > 3000).all()


@needs_node
def test_a_log_that_names_another_provider_is_believed_not_the_list(tmp_path: Path) -> None:
    library = fake_library(tmp_path, log=TWO_PLACES)
    provider = "XnnpackExecutionProvider"
    with pytest.raises(TargetError, match=r"CPUExecutionProvider runs 2 \(Relu\) in place of Xnnpack") as caught:
        session(library, provider=provider)
    assert "--allow-cpu-nodes 2" in caught.value.next_step
    with session(library, allow_cpu_nodes=2, provider=provider) as there:
        assert there.nodes_by_provider == {"XnnpackExecutionProvider": 1, CPU_PROVIDER: 2}


@needs_node
def test_a_library_that_does_not_say_where_its_nodes_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="did not say which node runs where"):
        session(fake_library(tmp_path, log=["nothing of interest"]))


@needs_node
@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ({"create": "throw 8653952;"}, r"threw the number 8653952: it does not read this model"),
        ({"create": 'throw new Error("no such operator\\nand more");'}, r"failed there \(no such operator\)"),
        ({"create": "process.kill(process.pid, 'SIGSEGV'); while (true);"}, "SIGSEGV"),
        ({"create": "process.exit(7);"}, "ended with code 7"),
    ],
)
def test_what_goes_wrong_when_a_model_is_opened_is_named(tmp_path: Path, spoiled: dict[str, str], words: str) -> None:
    with pytest.raises(StageError, match=words) as caught:
        session(fake_library(tmp_path, **spoiled))  # type: ignore[arg-type]
    assert caught.value.message.startswith("int8.onnx on wasm: ")


@needs_node
def test_a_worker_that_hangs_meets_the_limit_and_is_ended(tmp_path: Path) -> None:
    there = session(fake_library(tmp_path, run="while (true);"))
    there._call_limit_s = 0.5
    with pytest.raises(StageError, match=r"no answer within 0\.5 s"):
        there.run(X)
    assert there._worker._process.returncode is not None


@needs_node
def test_fed_one_image_a_call_it_gives_what_a_batch_would(tmp_path: Path) -> None:
    only_one = 'if (Object.values(feeds)[0].dims[0] !== 1) throw new Error("a batch");'
    with session(fake_library(tmp_path, run=only_one), "single") as there:
        np.testing.assert_allclose(there.run(X)[:, 0], X.mean((1, 2, 3)), rtol=1e-5)
        assert there.time_calls(X[:1], 2).shape == (2,)
        with pytest.raises(StageError, match="takes one image a call, found 4"):
            there.time_calls(X, 2)


@needs_node
def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"expected onnxruntime-web 1\.30\.0, found 1\.29\.0"):
        session(fake_library(tmp_path, version="1.29.0"))


@needs_node
def test_a_library_that_is_gone_is_a_target_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"its process failed: it ended with code 1") as caught:
        session(tmp_path / "gone.mjs")
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


def test_only_the_old_one_gets_an_older_file() -> None:
    newer = small_cnn()
    newer.ir_version = 10
    data = newer.SerializeToString()
    assert NODE_WASM.adapt(data) == data
    assert NODE_XNNPACK.adapt(data) != data
    assert NODE_XNNPACK.command_in(Path("/x"))[-1] == "single"
    assert "single" not in NODE_WASM.command_in(Path("/x"))


def test_what_would_change_node_itself_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--require=/tmp/anything.js")
    assert "NODE_OPTIONS" not in NODE_WASM.environment()
    assert "PATH" in NODE_WASM.environment()


def test_more_threads_than_it_takes_are_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeRuntime, "why_not", lambda self: None)
    with pytest.raises(UsageError, match="wasm: takes 1 thread at most, found 2") as caught:
        open_session("wasm", DATA, model_name="float.onnx", threads=2)
    assert caught.value.next_step == "--threads 1"


def test_an_onnxruntime_that_has_xnnpack_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    row = TARGETS["xnnpack"]
    places = [row.runtime_here]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [row.provider, CPU_PROVIDER])
    places.append(row.runtime_here)
    assert places == [NODE_XNNPACK, None]
    assert row.why_not() is None
    assert dataclasses.replace(row, native_first=False).runtime_here is NODE_XNNPACK


def test_the_real_library_answers_as_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch)
    with running("wasm", DATA, model_name="float.onnx") as there:
        here = reference_session(DATA, model_name="float.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)
        assert set(there.nodes_by_provider) == {CPU_PROVIDER}


@pytest.mark.parametrize("name", ["wasm", "xnnpack"])
def test_both_run_on_the_node_that_edgecnn_fetches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch)
    if reason := own_node_missing():
        pytest.skip(reason)
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, **how: None if name in ("node", "npm") else which(name, **how))
    with running(name, DATA, model_name="float.onnx", allow_cpu_nodes=20) as there:
        assert isinstance(there, WorkerSession)
        assert there.machine.versions["node"] == VERSION
        here = reference_session(DATA, model_name="float.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)


def test_the_real_xnnpack_answers_each_image_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch)
    if reason := NODE_XNNPACK.why_not():
        pytest.skip(reason)
    with running("xnnpack", DATA, model_name="float.onnx", allow_cpu_nodes=20) as there:
        here = reference_session(DATA, model_name="float.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)
        assert there.nodes_by_provider["XnnpackExecutionProvider"] > 0


@needs_node
def test_a_library_whose_webassembly_cannot_be_loaded_is_to_be_installed_again(tmp_path: Path) -> None:
    library = fake_library(tmp_path, create='throw new Error("no available backend found. ERR: [wasm] CompileError");')
    with pytest.raises(TargetError, match=r"the runtime there is broken \(no available backend found") as caught:
        session(library)
    assert caught.value.next_step == "edgecnn targets install wasm --force"
