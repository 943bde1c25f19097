"""The stages on a board: this machine, through a real sshd on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import edgecnn
from edgecnn.errors import ExitCode, TargetError, UsageError
from edgecnn.pipeline.measurement import MeasureSettings
from edgecnn.targets import ssh
from tests.bundles import snapshot
from tests.sshd import Server, needs_sshd, running_sshd

pytestmark = needs_sshd
CLOSED = "cpu@ssh://root@127.0.0.1:1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    ssh._look.cache_clear()
    (tmp_path / "sshd").mkdir()
    with pytest.MonkeyPatch.context() as patch, running_sshd(tmp_path / "sshd", patch) as running_server:
        yield running_server


def test_validate_compares_a_board_with_this_cpu_and_names_its_machine(server: Server, bundle_copy: Path) -> None:
    name = server.target()
    outcome, _ = edgecnn.validate(targets=[name], n_images=20, options=edgecnn.Options(bundle=bundle_copy))
    (result,) = (row for row in outcome.manifest.validation if row.target == name)
    assert result.float_against_cpu is not None
    assert result.int8_against_cpu is not None
    assert (result.float_against_cpu.argmax_flips, result.int8_against_cpu.max_abs_logit_difference) == (0, 0)
    assert result.n == 20
    assert "onnxruntime" in result.machine.versions
    assert "QEMU" not in result.machine.cpu


def test_bench_takes_the_boards_own_clock_and_claims_nothing_of_its_memory(server: Server, bundle_copy: Path) -> None:
    settings = edgecnn.BenchSettings(pairs=6, rounds=1, seconds=0.1)
    name = server.target()
    _, (result,), _ = edgecnn.bench(targets=[name], settings=settings, options=edgecnn.Options(bundle=bundle_copy))
    assert (result.target, result.clock, result.pairs) == (name, "measured", 6)
    assert (result.noise, result.pinned_cpus) == (None, ())
    assert result.float_startup is not None
    assert result.float_startup.peak_memory_bytes is None
    assert result.float_startup.runtime_memory_bytes is None
    # A round trip takes longer than a small network: the time is the board's own.
    assert 0 < result.float_latency.p50_us < result.float_startup.load_us
    assert "onnx" not in result.machine.versions


def test_a_board_out_of_reach_is_found_out_before_anything_is_measured(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(TargetError, match="no SSH server listens there") as caught:
        edgecnn.validate(targets=[CLOSED], options=edgecnn.Options(bundle=bundle_copy))
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    with pytest.raises(TargetError, match="no SSH server listens there"):
        edgecnn.bench(targets=[CLOSED], options=edgecnn.Options(bundle=bundle_copy))
    assert snapshot(bundle_copy) == before


def test_a_board_out_of_reach_does_not_lose_the_others_figures(bundle_copy: Path) -> None:
    options = edgecnn.Options(bundle=bundle_copy)
    outcome, verdict = edgecnn.validate(targets=["cpu", CLOSED], n_images=20, options=options)
    assert [(one.target, "no SSH server listens there" in one.reason) for one in verdict.failures] == [(CLOSED, True)]
    assert [one.target for one in outcome.manifest.validation] == ["cpu"]


@pytest.mark.parametrize("asked", [{"profile": True}, {"protocol": "mlperf-tiny"}])
def test_what_does_not_reach_a_board_is_refused(asked: dict[str, object]) -> None:
    settings = MeasureSettings(targets=("cpu@ssh://pi@board",), **asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="in a process of its own, where no operator is profiled"):
        edgecnn.take_measurement(settings=settings)


def test_a_board_is_not_raced_from_here(bundle_copy: Path) -> None:
    settings = edgecnn.TuneSettings(target="cpu@ssh://pi@board")
    with pytest.raises(UsageError, match="would time the way there, too") as caught:
        edgecnn.tune(settings=settings, options=edgecnn.Options(bundle=bundle_copy))
    assert "edgecnn bench --provider cpu@ssh://pi@board" in caught.value.next_step


def test_a_run_for_a_board_tunes_on_this_machine_if_that_is_asked_for_too() -> None:
    assert edgecnn.RunSettings(targets=("cpu@ssh://pi@board",)).tuning is None
    both = edgecnn.RunSettings(targets=("cpu@ssh://pi@board", "cpu")).tuning
    assert both is not None
    assert both.target == "cpu"
