"""Bundles to test with: a manifest with made-up figures, and ways to spoil a real one."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from edgecnn.bundle import Manifest
from edgecnn.bundle.latency import Noise, Precision, Startup, Trend
from edgecnn.bundle.manifest import (
    Artifact,
    CalibrationRecord,
    Check,
    ClassAccuracy,
    DataRecord,
    Difference,
    EpochRecord,
    FittedRecord,
    FusionRecord,
    JudgementRecord,
    Latency,
    LatencyResult,
    LayerSaturation,
    LayerSensitivityRecord,
    LayersRecord,
    MachineRecord,
    NetworkRecord,
    ParityRecord,
    SaturationRecord,
    SearchRecord,
    SensitivityRecord,
    SimplificationRecord,
    SkippedPassRecord,
    Speedup,
    StageRecord,
    TensorSpec,
    TryRecord,
    UnfusedRecord,
    ValidationFailure,
    ValidationResult,
)
from edgecnn.bundle.measurement import MeasuredFile, Measurement
from edgecnn.bundle.mlperf_tiny import TinyModel, TinyResult
from edgecnn.bundle.operators import LayerTimes, ModelProfile, OperatorProfile, OperatorTime
from edgecnn.bundle.prediction import BreakerRecord, PredictionRecord
from edgecnn.targets import TARGETS
from tests.graphs import make_model, node

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def snapshot(folder: Path) -> dict[str, str]:
    """Return every file and folder below ``folder``: its relative path, and the hash of what is in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in sorted(folder.rglob("*"))
    }


def times(folder: Path) -> dict[str, int]:
    """Return when each file below ``folder`` was last written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def read_manifest(bundle: Path) -> Manifest:
    """Return a bundle's manifest, from the disk."""
    return Manifest.model_validate_json((bundle / "manifest.json").read_bytes())


def plant(bundle: Path, name: str, data: bytes) -> None:
    """Replace a file, and make the manifest vouch for it: what someone would do who wants to fool us."""
    (bundle / name).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    newest = [artifact for artifact in manifest["artifacts"] if artifact["path"] == name][-1]
    newest |= {"sha256": sha256, "size_bytes": len(data)}
    manifest["stages"][newest["stage"]]["outputs"][name] = sha256
    path.write_text(json.dumps(manifest))


def scramble_int8(data: bytes) -> bytes:
    """Return a quantized model whose integer weights are shuffled."""
    model = ModelProto.FromString(data)
    random = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.ndim > 1:
            mixed = random.permutation(values.reshape(-1)).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(mixed, tensor.name))
    return bytes(model.SerializeToString())


def _classifier(body: list[NodeProto], constants: dict[str, np.ndarray], channels: int, tail: list[NodeProto]) -> bytes:
    """Return a classifier of 3x32x32 images into ten classes."""
    last = "raw" if tail else "logits"
    model = make_model(
        [
            *body,
            node("GlobalAveragePool", ["features"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
            node("Gemm", ["flat", "weight"], [last]),
            *tail,
        ],
        {**constants, "weight": np.random.default_rng(0).normal(size=(channels, 10))},
        inputs={"input": ("batch", 3, 32, 32)},
        outputs={"logits": ("batch", 10)},
    )
    return bytes(model.SerializeToString())


def fast_model() -> bytes:
    """Return a classifier that does next to nothing."""
    return _classifier([node("Relu", ["input"], ["features"])], {}, 3, [])


def slow_model() -> bytes:
    """Return a classifier with twenty times the arithmetic of SimpleCNN."""
    random = np.random.default_rng(0)
    body = [
        node("Conv", ["input", "first"], ["wide"], pads=[1, 1, 1, 1]),
        node("Conv", ["wide", "second"], ["features"], pads=[1, 1, 1, 1]),
    ]
    kernels = {"first": random.normal(size=(48, 3, 3, 3)), "second": random.normal(size=(48, 48, 3, 3))}
    return _classifier(body, kernels, 48, [])


def nan_model() -> bytes:
    """Return a sound file that answers NaN: the logarithm of what is below zero."""
    tail = [
        node("Abs", ["raw"], ["size"]),
        node("Sub", ["minus", "size"], ["below"]),
        node("Log", ["below"], ["logits"]),
    ]
    return _classifier([node("Relu", ["input"], ["features"])], {"minus": np.array([-1.0])}, 3, tail)


def missing_target() -> str:
    """Return a row of the target table that cannot run on this machine; no machine has all of them."""
    return next(name for name, row in TARGETS.items() if row.runtime is None and row.why_not() is not None)


def save_npz(path: Path, *, n_train: int = 60, n_test: int = 20, classes: int = 3, seed: int = 0) -> Path:
    """Save random images with 32x32 pixels, every class among them."""
    random = np.random.default_rng(seed)
    np.savez(
        path,
        x_train=random.integers(0, 256, (n_train, 32, 32, 3), np.uint8),
        y_train=np.arange(n_train) % classes,
        x_test=random.integers(0, 256, (n_test, 32, 32, 3), np.uint8),
        y_test=np.arange(n_test) % classes,
    )
    return path


def validation_result(
    *, target: str = "cpu", drop_pp: float = 0.1234, per_class: tuple[ClassAccuracy, ...] = ()
) -> ValidationResult:
    """Return made-up accuracy."""
    return ValidationResult(
        target=target,
        float_top1=0.73219,
        int8_top1=0.73096,
        drop_pp=drop_pp,
        drop_pp_low=-0.2345,
        drop_pp_high=0.4817,
        agreement=0.96543,
        p_value=0.56781,
        n=8123,
        per_class=per_class,
        data_sha256="d" * 64,
        measured_at=NOON,
        machine=MACHINE,
    )


def emulated_result() -> ValidationResult:
    """Return made-up accuracy on some of the images, on a CPU that answers otherwise than this one."""
    return validation_result(target="cpu@haswell").model_copy(
        update={
            "n_available": 9001,
            "sample_seed": 0,
            "float_against_cpu": Difference(argmax_flips=7, max_abs_logit_difference=0.0123, top1_change_pp=-0.0731),
            "int8_against_cpu": Difference(argmax_flips=2763, max_abs_logit_difference=1.2345, top1_change_pp=3.21),
            "how": "emulated",
            "provider": "CPUExecutionProvider",
            "float_nodes": {"CPUExecutionProvider": 13},
            "int8_nodes": {"CPUExecutionProvider": 37},
        }
    )


def validation_failure() -> ValidationFailure:
    """Return a made-up target that gave no figures."""
    return ValidationFailure(
        target="xnnpack",
        reason="xnnpack: its process failed: SIGSEGV (a|b).",
        next_step="edgecnn targets",
        exit_code=4,
        failed_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def saturation_record(*, unsafe: int = 5) -> SaturationRecord:
    """Return a made-up audit of two layers, the second of which can saturate in some outputs."""
    return SaturationRecord(
        layers=(
            _layer(name="conv_1|x", high=254, worst=-32131, bound=32636, outputs=6, unsafe=0),
            _layer(name="conv_2", high=253, worst=64771 if unsafe else 32012, bound=64772, outputs=18, unsafe=unsafe),
        ),
        exempt={"depthwise": "it is widened"},
        unknown={"attention": "its weights are not constant"},
    )


def _layer(*, name: str, high: int, worst: int, bound: int, outputs: int, unsafe: int) -> LayerSaturation:
    return LayerSaturation(
        layer=name,
        op="Conv",
        activation_low=0,
        activation_high=high,
        worst_pair_sum=worst,
        worst_pair_sum_any_order=bound,
        outputs=outputs,
        outputs_that_can_saturate=unsafe,
    )


def judgement(drop_pp: float, sqnr_db: float | None, *, reach_pp: float = 0.21) -> JudgementRecord:
    """Return a made-up comparison with float."""
    return JudgementRecord(
        drop_pp=drop_pp, drop_pp_low=drop_pp - reach_pp, drop_pp_high=drop_pp + reach_pp + 0.01, sqnr_db=sqnr_db
    )


def tried(recipe: str, drop_pp: float, *, met: bool = False, float_layers: tuple[str, ...] = ()) -> TryRecord:
    """Return a made-up try of a search."""
    return TryRecord(**judgement(drop_pp, 20 + drop_pp).model_dump(), recipe=recipe, float_layers=float_layers, met=met)


def search_record(*, met: bool = True) -> SearchRecord:
    """Return a made-up search: a recipe, then one with two float layers, then with one of them."""
    return SearchRecord(
        max_drop_pp=0.35,
        met=met,
        n=4987,
        tries=(
            tried("u8s8-pertensor-minmax", 2.345),
            tried("u8s8-pertensor-minmax-2float", 0.123, met=met, float_layers=("conv_1|x", "conv_2")),
            tried("u8s8-pertensor-minmax-1float", 0.234, met=met, float_layers=("conv_1|x",)),
        ),
    )


def sensitivity_record() -> SensitivityRecord:
    """Return made-up figures of two layers, the first of which costs nearly all."""
    return SensitivityRecord(
        recipe="u8s8-perchannel-mse-reduced",
        n=3987,
        whole=judgement(1.456, 14.15),
        layers=(
            _sensitivity("conv_1|x", weight=12.34, inputs=None, alone=(1.357, 15.16), all_but=(0.0357, 37.38)),
            _sensitivity("conv_2", weight=43.21, inputs=41.42, alone=(0.0468, 39.41), all_but=(1.4321, 14.43)),
        ),
    )


def _sensitivity(
    layer: str, *, weight: float, inputs: float | None, alone: tuple[float, float], all_but: tuple[float, float]
) -> LayerSensitivityRecord:
    return LayerSensitivityRecord(
        layer=layer,
        op="Conv",
        weight_sqnr_db=weight,
        activation_sqnr_db=inputs,
        alone=judgement(*alone),
        all_but=judgement(*all_but),
    )


def fusion_record() -> FusionRecord:
    """Return a made-up audit: two operators stay float, one of them for one reason in two places."""
    return FusionRecord(
        n=251,
        argmax_flips=17,
        max_abs_logit_difference=0.0471,
        unfused=(
            UnfusedRecord(layer="gate_1", op="Mul", reason="left in float on purpose"),
            UnfusedRecord(layer="conv_1|x", op="Conv", reason="its input is float"),
            UnfusedRecord(layer="gate, too", op="Mul", reason="left in float on purpose"),
        ),
    )


def simplification_record() -> SimplificationRecord:
    """Return made-up node counts and a pass that was left out."""
    return SimplificationRecord(
        nodes_before={"Conv": 5, "Identity": 9},
        nodes_after={"Conv": 5},
        skipped=(SkippedPassRecord(name="fuse_bn", reason="logits differ by 0.5"),),
    )


def latency_result(
    *,
    target: str = "cpu",
    batch: int = 1,
    threads: int = 1,
    speedup: tuple[float, float, float] = (0.6123, 0.6012, 0.6234),
    word: str = "slower",
) -> LatencyResult:
    """Return made-up latency."""
    median, low, high = speedup
    return LatencyResult.model_validate(
        {
            "target": target,
            "batch": batch,
            "threads": threads,
            "clock": "measured",
            "float": Latency(p50_us=23.51, p90_us=24.62, p99_us=29.73, n=84013),
            "int8": Latency(p50_us=38.14, p90_us=39.25, p99_us=55.36, n=54007),
            "speedup": Speedup(median=median, low=low, high=high),
            "verdict": word,
            "pairs": 19,
            "rounds": 43,
            "pinned_cpus": (1,),
            "measured_at": NOON,
            "machine": MACHINE,
        }
    )


def noise(*, warnings: tuple[str, ...] = ()) -> Noise:
    """Return made-up noise."""
    return Noise(
        seconds=5.27,
        spin_us=251.36,
        spin_variation=0.0341,
        frequency_low_mhz=None,
        frequency_high_mhz=None,
        steal=0.0121,
        other_load=0.0232,
        load_average_before=0.41,
        load_average_after=1.43,
        involuntary_switches=161,
        trend=Trend(tau=0.2334, p_value=0.4176, change=-0.0156),
        sessions=38,
        unsteady_sessions=1,
        warnings=warnings,
    )


def full_latency_result(**changes: object) -> LatencyResult:
    """Return made-up latency with every field, the newer ones too."""
    result = latency_result()
    return result.model_copy(
        update={
            "through": "iobinding",
            "float_latency": Latency(
                p50_us=22.57, p90_us=23.68, p99_us=28.79, n=83017, max_us=913.1, images_per_second=41234.5
            ),
            "int8_latency": Latency(
                p50_us=37.14, p90_us=38.25, p99_us=54.36, n=53009, max_us=917.2, images_per_second=25678.9
            ),
            "precision": Precision(asked=0.0211, found=0.0373, met=False, max_seconds=121.5),
            "float_startup": Startup(
                size_bytes=250421,
                load_us=1711.2,
                first_us=191.3,
                peak_memory_bytes=57192449,
                runtime_memory_bytes=45170687,
            ),
            "int8_startup": Startup(
                size_bytes=73642,
                load_us=1522.4,
                first_us=88.9,
                peak_memory_bytes=57262083,
                runtime_memory_bytes=45170687,
            ),
            "noise": noise(warnings=("the hypervisor took 1% of the CPU's time for others",)),
            "float_medians_us": (22.1, 22.9, 23.4, 22.3, 22.2, 22.8),
            "int8_medians_us": (37.1, 37.9, 36.4, 37.3, 37.2, 37.8),
            **changes,
        }
    )


def tiny_result(**changes: object) -> TinyResult:
    """Return a made-up result by the rules of MLPerf Tiny."""
    made = TinyResult(
        target="cpu",
        threads=1,
        window_seconds=10,
        float_model=TinyModel(
            inferences_per_second=38123.4,
            windows=(38001.1, 38123.4, 38222.2, 37999.9, 38200.5),
            balanced_top1=0.715,
            full_top1=0.7245,
        ),
        int8_model=TinyModel(
            inferences_per_second=24123.4,
            windows=(24001.1, 24123.4, 24222.2, 23999.9, 24200.5),
            balanced_top1=0.7,
            full_top1=0.7237,
        ),
        n_balanced=200,
        n_full=10000,
        departures=(),
        noise=noise(),
        measured_at=NOON,
        machine=MACHINE,
    )
    return made.model_copy(update=changes)


def operator_profile() -> OperatorProfile:
    """Return a made-up profile: the first layer slower in int8, the second faster."""
    of_float = (
        OperatorTime(name="relu_nchwc", op="Conv", layer="conv_1|x", overhead=False, us=12.34, share=0.6),
        OperatorTime(name="ReorderOutput", op="ReorderOutput", layer=None, overhead=True, us=3.21, share=0.1),
        OperatorTime(name="fused fc", op="FusedGemm", layer="fc", overhead=False, us=8.76, share=0.3),
    )
    of_int8 = (
        OperatorTime(name="q", op="QuantizeLinear", layer=None, overhead=True, us=2.25, share=0.1),
        OperatorTime(name="conv_1_token_3", op="QLinearConv", layer="conv_1|x", overhead=False, us=21.43, share=0.7),
        OperatorTime(name="t", op="Transpose", layer=None, overhead=True, us=2.51, share=0.1),
        OperatorTime(name="fc", op="QGemm", layer="fc", overhead=False, us=4.56, share=0.1),
    )
    return OperatorProfile(
        target="cpu",
        batch=1,
        threads=1,
        float_model=ModelProfile(operators=of_float, total_us=24.31, overhead_us=3.21, runs=1987),
        int8_model=ModelProfile(operators=of_int8, total_us=30.75, overhead_us=4.76, runs=1765),
        layers=(
            LayerTimes(layer="conv_1|x", op="Conv", float_us=12.34, int8_us=21.43, slower_in_int8=True),
            LayerTimes(layer="fc", op="Gemm", float_us=8.76, int8_us=4.56, slower_in_int8=False),
            LayerTimes(layer="lost", op="Conv", float_us=None, int8_us=None, slower_in_int8=False),
        ),
    )


def measurement(*results: LatencyResult, **changes: object) -> Measurement:
    """Return a made-up measurement of two made-up files."""
    made = Measurement(
        edgecnn_version="9.8.7",
        network="simplecnn",
        models={
            "float.onnx": MeasuredFile(sha256="b" * 64, size_bytes=250421),
            "int8.onnx": MeasuredFile(sha256="c" * 64, size_bytes=73642),
        },
        results=results,
    )
    return made.model_copy(update=changes)


def prediction_record(**changes: object) -> PredictionRecord:
    """Return a made-up prediction of int8.onnx."""
    made = PredictionRecord(
        target="coreml",
        form="MLProgram",
        model="int8.onnx",
        model_sha256="c" * 64,
        nodes=47,
        supported_nodes=19,
        partitions=7,
        breakers=(BreakerRecord(op="Mish|", nodes=28, reason="is not taken", change="write something else"),),
        dynamic_batch=True,
        suitability="no",
        unchecked=("Conv: Only 2D.", "Gemm: Constant."),
        onnxruntime="1.32.0",
    )
    return made.model_copy(update=changes)


def fitted_record(**changes: object) -> FittedRecord:
    """Return a made-up model of QNN's own."""
    made = FittedRecord(
        target="qnn",
        model="int8-qnn.onnx",
        model_sha256="f" * 64,
        reason="it|wants that",
        recipe="u16s8-perchannel-mse",
        calibration=CalibrationRecord(
            split="train", n=516, seed=17, data_sha256="d" * 64, excluded_as_test_images=14, image_sha256=("e" * 64,)
        ),
        choice=SearchRecord(
            max_drop_pp=0.31,
            met=False,
            n=4881,
            tries=(tried("u8s8-perchannel-mse", 2.354), tried("u16s8-perchannel-mse", 0.463)),
        ),
        saturation=saturation_record(),
    )
    return made.model_copy(update=changes)


def fitted_manifest() -> Manifest:
    """Return the fixed manifest with a model of QNN's own that was measured, and predictions."""
    whole = fixed_manifest()
    artifact = Artifact(stage="fit", path="int8-qnn.onnx", sha256="f" * 64, size_bytes=81234, parent_sha256="b" * 64)
    of_qnn = {"int8_model": "int8-qnn.onnx"}
    measured = fitted_record(
        validation=(validation_result(target="qnn", drop_pp=0.4321).model_copy(update=of_qnn),),
        latency=(latency_result(target="qnn", batch=3).model_copy(update=of_qnn),),
    )
    to_float = FittedRecord(target="coreml", model="float.onnx", model_sha256="b" * 64, reason="it takes no integers")
    predictions = (
        prediction_record(),
        prediction_record(
            model="float.onnx",
            model_sha256="b" * 64,
            nodes=23,
            supported_nodes=23,
            partitions=1,
            breakers=(),
            suitability="yes",
        ),
    )
    return whole.model_copy(
        update={
            "artifacts": (*whole.artifacts, artifact),
            "fitted": (measured, to_float),
            "predictions": predictions,
        }
    )


def fixed_manifest() -> Manifest:
    """Return a manifest with a different figure in every field, so that no two can be confused."""
    image = TensorSpec(name="input", dtype="float32", shape=("batch", 3, 32, 32))
    logits = TensorSpec(name="logits", dtype="float32", shape=("batch", 2))
    return Manifest(
        edgecnn_version="9.8.7",
        network=NetworkRecord(
            name="simplecnn", parameters=61326, mean=(0.49129, 0.48206, 0.44653), std=(0.24521, 0.24277, 0.26062)
        ),
        data=DataRecord(
            source="folder",
            name="cats_and|dogs",
            sha256="d" * 64,
            classes=("cat", "dog <b>"),
            n_train=50021,
            n_test=8123,
            image_shape=(32, 32, 3),
            resize="RGB; resized to 32x32",
        ),
        training_curve=(
            EpochRecord(epoch=1, loss=2.11111, train_top1=0.22222, learning_rate=0.001),
            EpochRecord(epoch=2, loss=1.23456, train_top1=0.65437, learning_rate=0.002),
        ),
        artifacts=(
            Artifact(stage="train", path="model.pt", sha256="a" * 64, size_bytes=252549, tools={"torch": "2.15.0"}),
            Artifact(
                stage="export",
                path="float.onnx",
                sha256="b" * 64,
                size_bytes=250421,
                parent_sha256="a" * 64,
                input=image,
                output=logits,
                tools={"torch": "2.15.0", "onnx": "1.23.2"},
            ),
            Artifact(
                stage="quantize",
                path="int8.onnx",
                sha256="c" * 64,
                size_bytes=73642,
                parent_sha256="b" * 64,
                input=image,
                output=logits,
                tools={"onnxruntime": "1.32.0"},
            ),
        ),
        stages={
            "train": _stage({"model": "simplecnn", "epochs": 2, "flip": True}, 12.345),
            "export": _stage({"batch": None, "input_type": "float32"}, 4.321),
            "quantize": _stage({"recipe": {"name": "u8s8-perchannel-mse-reduced"}, "images": 517}, 0.234),
        },
        parity=(
            ParityRecord(
                stage="export",
                reference="PyTorch",
                n=67,
                batch_sizes=(1, 8),
                max_abs_difference=2.861e-06,
                max_relative_difference=3.412e-07,
                tolerance=1e-4,
                argmax_flips=3,
                layers=LayersRecord(n=29, n_equal=27, worst_layer="conv_1|x", worst_relative=5.1e-07),
            ),
        ),
        simplification=simplification_record(),
        calibration=CalibrationRecord(
            split="train", n=517, seed=11, data_sha256="d" * 64, excluded_as_test_images=13, image_sha256=("e" * 64,)
        ),
        float_layers=("conv_1|x",),
        search=search_record(),
        sensitivity=sensitivity_record(),
        validation=(
            validation_result(
                per_class=(
                    ClassAccuracy(name="cat", n=4061, float_top1=0.71717, int8_top1=0.71471, drop_pp=0.246),
                    ClassAccuracy(name="dog <b>", n=4062, float_top1=0.74721, int8_top1=0.74843, drop_pp=-0.122),
                )
            ),
        ),
        saturation=saturation_record(),
        fusion=fusion_record(),
        latency=(
            latency_result(),
            latency_result(batch=8, speedup=(1.5123, 1.4012, 1.6234), word="faster"),
            full_latency_result(),
        ),
        checks=(
            Check(name="accuracy drop on cpu", measured=0.1234, limit=1.5, unit="points, at most", passed=True),
            Check(name="size of int8.onnx", measured=73642, limit=70000, unit="bytes, at most", passed=False),
        ),
    )


def _stage(settings: dict[str, object], seconds: float) -> StageRecord:
    return StageRecord.model_validate(
        {"inputs": {}, "settings": settings, "outputs": {}, "finished_at": NOON, "seconds": seconds}
    )


MACHINE = MachineRecord(
    system="Linux 6.1",
    architecture="x86_64",
    cpu="Example CPU @ 2.50GHz",
    cores=17,
    cpu_features=("AVX2", "FMA3"),
    versions={"python": "3.12.9", "onnxruntime": "1.32.0"},
    load_average=0.37,
)
