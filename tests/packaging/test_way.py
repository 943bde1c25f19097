"""How a program opens the models of a package, in words that it can read."""

import json

from edgecnn.packaging.way import Way
from edgecnn.targets import TARGETS

PLAIN = Way(provider="XnnpackExecutionProvider", runtime="1.2.3", requires=("onnxruntime==1.2.3",))


def test_the_words_are_json_and_complete() -> None:
    plugin = TARGETS["qnn@sm8650"].plugin
    assert plugin is not None
    way = Way(
        provider="QNNExecutionProvider",
        runtime="1.32.0",
        requires=("onnxruntime==1.32.0", "onnxruntime-qnn==2.7.0"),
        provider_options=TARGETS["qnn@sm8650"].provider_options,
        plugin=plugin.words(),
        allow_cpu_nodes=2,
    )
    assert json.loads(json.dumps(way.words())) == {
        "provider": "QNNExecutionProvider",
        "onnxruntime": "1.32.0",
        "requires": ["onnxruntime==1.32.0", "onnxruntime-qnn==2.7.0"],
        "provider_options": {"soc_model": "57", "htp_arch": "75"},
        "plugin": {"module": "onnxruntime_qnn", "paths": {"backend_path": "get_qnn_htp_path"}},
        "allow_cpu_nodes": 2,
    }


def test_an_ort_file_is_opened_on_the_cpu_alone() -> None:
    assert PLAIN.provider_of("float.ort") == "CPUExecutionProvider"
    assert PLAIN.provider_of("float_ctx.onnx") == "XnnpackExecutionProvider"
    assert PLAIN.words()["plugin"] is None
