"""Node and browsers to test with: fakes of onnxruntime-web, and where the real targets are set up."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgecnn.targets import node_program, npm
from edgecnn.targets.browser import WASM_ISOLATED

#: A cache folder in which ``edgecnn targets install`` was run: tests of the real targets need it, and no network.
SET_UP = "EDGECNN_TEST_TARGETS"
WEB = Path(npm.__file__).parent / "web"


def offer_node() -> None:
    """Put the Node that scripts/targets fetched on PATH where none there will do: the tests start ``node`` by its name.

    To be called before tests are collected, and before they get a cache of their own.
    """
    if (place := os.environ.get(SET_UP)) is None or node_program.system_node_missing() is None:
        return
    programs = Path(place) / "targets" / node_program.own_folder().name / "bin"
    if (programs / "node").is_file():
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"


offer_node()
needs_node = pytest.mark.skipif(node_program.node_missing() is not None, reason=f"{node_program.node_missing()}")


def fake_program(folder: Path, name: str, script: str) -> Path:
    """Write a shell script to be found on PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def real_targets(monkeypatch: pytest.MonkeyPatch, *, chromium: bool = False) -> None:
    """Use the targets that are set up on this machine, or skip the test."""
    place = os.environ.get(SET_UP)
    if place is None:
        pytest.skip(f"no targets are set up for tests: export {SET_UP}=CACHE after edgecnn targets install wasm")
    monkeypatch.setenv("EDGECNN_CACHE", place)
    reason = node_program.node_missing() or npm.WASM.why_not() or (WASM_ISOLATED.why_not() if chromium else None)
    if reason:
        pytest.skip(reason)


def node(code: str, *arguments: str, told: str = "") -> str:
    """Run a module in Node and return what it printed."""
    program = shutil.which("node")
    assert program is not None
    command = [program, "--input-type=module", "--eval", code, "--", *arguments]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers_of(module: Path, function: str, arguments: list[list[object]]) -> list[object]:
    """Call a function of a JavaScript module once for each list of arguments; both ways as JSON."""
    code = f"""
import fs from "node:fs";
const {{ {function} }} = await import({json.dumps(module.as_uri())});
const calls = JSON.parse(fs.readFileSync(0));
console.log(JSON.stringify(calls.map((call) => {function}(...call))));
"""
    found: list[object] = json.loads(node(code, told=json.dumps(arguments)))
    return found


#: An onnxruntime-web whose model gives the mean of each image; it says what a log says, where Emscripten writes it.
FAKE_LIBRARY = """
import fs from "node:fs";
const SAYS = %(log)s;
class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
let runs = 0;
class InferenceSession {
  static async create(bytes, options) {
    if (options.logSeverityLevel === 0) for (const line of SAYS) fs.writeSync(2, line + "\\n");
    console.log("chatter", options.executionProviders[0]);
    %(create)s
    return new InferenceSession();
  }
  async release() {}
  async run(feeds) {
    runs++;
    %(run)s
    const { data, dims } = Object.values(feeds)[0], size = data.length / dims[0];
    const logits = new Float32Array(dims[0] * 3);
    for (let image = 0; image < dims[0]; image++)
      for (let i = 0; i < size; i++) logits[3 * image] += data[image * size + i] / size;
    return { y: new Tensor("float32", logits, [dims[0], 3]) };
  }
}
export default { Tensor, InferenceSession, env: { wasm: {}, versions: { web: "%(version)s" } } };
"""
ALL_ON_CPU = ["[V:onnxruntime:, session_state.cc:1380 VerifyEachNodeIsAssignedToAnEp]  "
              "All nodes placed on [CPUExecutionProvider]. Number of nodes: 3"]  # fmt: skip


def fake_library(
    folder: Path, *, log: list[str] | None = None, create: str = "", run: str = "", version: str = "1.30.0"
) -> Path:
    """Write that module and return where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "library.mjs"
    told = {"log": json.dumps(ALL_ON_CPU if log is None else log), "create": create, "run": run, "version": version}
    place.write_text(FAKE_LIBRARY % told)
    return place
