"""What keeps a worker from outliving the connection that it came by."""

import json
import subprocess
import sys
import time
from pathlib import Path

from edgecnn.targets import ssh_guard, ssh_probe

GUARD = Path(ssh_guard.__file__).read_text()
PROBE = Path(ssh_probe.__file__).read_text()


def start(then: str, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", f"{GUARD}\n{then}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd
    )


def test_a_process_in_the_middle_of_something_ends_with_its_stdin() -> None:
    process = start("import time; print('at work', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"at work\n"
    started = time.monotonic()
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert time.monotonic() - started < 30
    process.stdout.close()


def test_it_lives_while_its_stdin_is_open_and_may_be_read() -> None:
    process = start("import sys, time; print(sys.stdin.readline(), flush=True); time.sleep(60)")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"hello\n"
    time.sleep(2 * ssh_guard.GRACE_S)
    assert process.poll() is None
    process.communicate()


def test_what_lies_in_the_home_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('a stray file')")
    process = start("import numpy; print(numpy.array(1) + 1)", cwd=tmp_path)
    assert process.communicate()[0] == b"2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["numpy.py"]


def test_the_probe_says_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('wrong ELF class\\nsecond line')")
    told = f"import sys; sys.path.append({str(tmp_path)!r}); sys.path.reverse()\n{PROBE}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["versions"]) == {"numpy"}
    assert found["errors"] == {"onnxruntime": "ImportError: wrong ELF class"}
