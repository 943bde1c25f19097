"""A board over SSH: this machine itself, through a real sshd on loopback."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgecnn.errors import ExitCode, StageError, TargetError, UsageError
from edgecnn.targets import Target, reference_session, require, running, ssh, target
from edgecnn.targets.install import install_target
from edgecnn.targets.ssh import SshBoard
from edgecnn.targets.worker_session import WorkerSession
from tests.graphs import small_cnn
from tests.sshd import Server, needs_sshd, running_sshd

DATA = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
pytestmark = needs_sshd
#: A device whose runtime takes a minute for a batch.
SLOW = """
import onnxruntime, time
onnxruntime.InferenceSession.run = lambda *_: time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch, running_sshd(tmp_path_factory.mktemp("sshd"), patch) as running_server:
        yield running_server


@pytest.fixture(autouse=True)
def forget() -> None:
    ssh._look.cache_clear()


def session(board: SshBoard, call_limit_s: float | None = None) -> WorkerSession:
    return WorkerSession(
        DATA, model_name="int8.onnx", target="cpu@ssh://x", runtime=board, clock="measured", call_limit_s=call_limit_s
    )


def pid_file(server: Server) -> str:
    """Return shell that writes the number of the process that Python will be."""
    return f"echo $$ > {server.folder}/pid"


def read_pid(server: Server) -> int:
    return int((server.folder / "pid").read_text())


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 15
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the worker outlived its connection"
        time.sleep(0.05)


def test_the_answers_are_those_of_a_session_in_this_process(server: Server) -> None:
    here = reference_session(DATA, model_name="int8.onnx")
    with running(server.target(), DATA, model_name="int8.onnx") as there:
        np.testing.assert_array_equal(there.run(X), here.run(X))
        assert (there.clock, there.nodes_by_provider) == ("measured", here.nodes_by_provider)
        assert isinstance(there, WorkerSession)
        assert there.time_calls(X, 5).shape == (5,)
        assert (there.time_calls(X, 5) > 0).all()
        assert there.machine.versions["onnxruntime"] == onnxruntime.__version__
        assert "QEMU" not in there.machine.cpu


def test_nothing_is_written_on_the_board_and_nothing_runs_there_afterwards(server: Server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    places = f"export HOME={home} TMPDIR={home} XDG_CACHE_HOME={home}; cd {home}; {pid_file(server)}"
    board = server.board(server.python("python-home", before=places))
    board.look()
    with session(board) as there:
        there.run(X)
        pid = read_pid(server)
        assert Path(f"/proc/{pid}").exists()
    wait_until_gone(pid)
    assert list(home.iterdir()) == []


def test_a_full_disk_on_the_board_is_no_obstacle(server: Server) -> None:
    board = server.board(server.python("python-full", before="ulimit -f 0; export TMPDIR=/proc HOME=/proc"))
    board.look()
    with session(board) as there:
        assert there.run(X).shape == (4, 3)


def test_the_worker_ends_in_the_middle_of_a_call_when_its_caller_is_killed(server: Server) -> None:
    python = server.python("python-slow", before=pid_file(server), patch=SLOW)
    code = (
        "import sys, numpy as np\nfrom tests.graphs import small_cnn\nfrom edgecnn.targets import open_session\n"
        f"s = open_session({server.target(python)!r}, small_cnn().SerializeToString(), model_name='x')\n"
        "print('opened', flush=True)\ns.run(np.zeros((1, 3, 8, 8), np.float32))"
    )
    root = Path(__file__).parents[2]
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"opened\n"
    time.sleep(0.5)
    pid = read_pid(server)
    assert Path(f"/proc/{pid}").exists()
    caller.kill()
    caller.communicate()
    wait_until_gone(pid)


def test_a_board_that_stops_answering_in_the_middle_is_given_up_and_cleaned_up(server: Server) -> None:
    board = server.board(server.python("python-stuck", before=pid_file(server), patch=SLOW))
    there = session(board, call_limit_s=20)
    there._call_limit_s = 0.3
    with pytest.raises(StageError, match=r"no answer within 0\.3 s") as caught:
        there.run(X)
    assert caught.value.next_step.startswith("see how it is doing: ssh -p")
    wait_until_gone(read_pid(server))


def test_a_connection_that_breaks_in_the_middle_is_named(server: Server) -> None:
    board = server.board(server.python("python-cut", before=pid_file(server)))
    with session(board) as there:
        os.kill(read_pid(server), signal.SIGKILL)
        with pytest.raises(StageError, match=r"int8\.onnx on cpu@ssh://x: its process failed: ") as caught:
            there.run(X)
    assert "the same command again" in caught.value.next_step


def test_a_program_that_is_killed_there_is_told_from_a_connection_that_broke(server: Server) -> None:
    board = server.board(server.python("python-oom", before=pid_file(server), patch=SLOW))
    with session(board) as there:
        threading.Timer(0.5, os.kill, (read_pid(server), signal.SIGKILL)).start()
        with pytest.raises(StageError, match="ended with code 255: the program there was killed"):
            there.run(X)


def test_a_silent_machine_is_noticed_by_ssh_itself(server: Server) -> None:
    board = dataclasses.replace(server.board(), alive_s=1)
    with session(board) as there:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        stopped = [int(pid) for child in children for pid in _family(int(child))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StageError, match="not responding"):
                there.run(X)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(other for child in children for other in _family(int(child)))]


def refused(server: Server, name: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        require(name)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    return caught.value


def test_no_python_is_named(server: Server) -> None:
    error = refused(server, server.target("/no/such/python3"))
    assert "/no/such/python3 is not there" in error.message
    assert "install Python 3.11 or newer" in error.next_step


def test_a_python_of_another_architecture_is_named(server: Server) -> None:
    program = server.folder / "python-foreign"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(100))  # RISC-V
    program.chmod(0o755)
    assert "cannot be run there: is it of another architecture?" in refused(server, server.target(program)).message


@pytest.mark.parametrize("library", ["onnxruntime", "numpy"])
def test_a_missing_library_comes_with_the_command_to_type_there(server: Server, library: str) -> None:
    patch = f"import sys\nclass No:\n    def find_spec(self, name, *_):\n        if name == {library!r}:\n"
    patch += f"            raise ModuleNotFoundError('No module named {library}')\nsys.meta_path.insert(0, No())\n"
    python = server.python(f"python-without-{library}", patch=patch)
    error = refused(server, server.target(python))
    assert f"{python} has no {library} (ModuleNotFoundError: No module named {library})" in error.message
    assert f"{python} -m pip install onnxruntime=={onnxruntime.__version__} 'numpy>=2'" in error.next_step


def test_a_library_of_another_architecture_is_told_from_a_missing_one(server: Server) -> None:
    patch = "import sys\nclass No:\n    def find_spec(self, name, *_):\n        if name == 'onnxruntime':\n"
    patch += "            raise ImportError('wrong ELF class: ELFCLASS32')\nsys.meta_path.insert(0, No())\n"
    error = refused(server, server.target(server.python("python-elf32", patch=patch)))
    assert "has a onnxruntime that cannot be loaded on" in error.message
    assert "wrong ELF class: ELFCLASS32" in error.message


def test_an_old_python_is_named(server: Server) -> None:
    python = server.python("python-old", patch="import platform\nplatform.python_version = lambda: '3.7.3'\n")
    assert "expected Python 3.11 or newer, found 3.7.3" in refused(server, server.target(python)).message


OTHER = "import onnxruntime\nonnxruntime.__version__ = '1.30.5'\n"


def test_another_onnxruntime_is_refused_unless_it_is_asked_for(server: Server) -> None:
    python = server.python("python-other", patch=OTHER)
    error = refused(server, server.target(python))
    assert f"expected onnxruntime {onnxruntime.__version__}, found 1.30.5" in error.message
    assert "add ?onnxruntime=1.30.5 to the target's name" in error.next_step
    with running(server.target(python, "?onnxruntime=1.30.5"), DATA, model_name="int8.onnx") as there:
        assert isinstance(there, WorkerSession)
        assert there.machine.versions["onnxruntime"] == "1.30.5"


def test_an_onnxruntime_that_tells_too_little_is_refused_even_if_asked_for(server: Server) -> None:
    python = server.python("python-ancient", patch="import onnxruntime\nonnxruntime.__version__ = '1.23.2'\n")
    error = refused(server, server.target(python, "?onnxruntime=1.23.2"))
    assert "expected onnxruntime 1.24 or newer, found 1.23.2" in error.message
    assert f"pip install onnxruntime=={onnxruntime.__version__}" in error.next_step


@pytest.mark.parametrize(
    "answer", ["[]", '{"python": 3}', '{"machine": "a", "python": "3.11", "versions": [], "errors": {}}']
)
def test_an_answer_of_another_shape_is_refused(server: Server, answer: str) -> None:
    program = server.folder / f"python-odd-{len(answer)}"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    assert "expected the answer of a Python program" in refused(server, server.target(program)).message


def test_a_model_too_new_for_the_board_says_what_to_do(server: Server) -> None:
    patch = "import onnxruntime\ndef no(*_, **__):\n    raise ValueError('Unsupported model IR version: 12, max 11')\n"
    board = server.board(server.python("python-ir", patch=f"{patch}onnxruntime.InferenceSession = no\n"))
    with pytest.raises(TargetError, match=r"too new for the runtime there .*IR version: 12") as caught:
        session(board)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert f"pip install onnxruntime=={onnxruntime.__version__}" in caught.value.next_step
    assert "--opset" in caught.value.next_step


def test_a_start_file_that_prints_is_named_and_its_control_characters_are_not_shown(server: Server) -> None:
    program = server.folder / "python-chatty"
    program.write_text("#!/bin/sh\nprintf 'Wel\\033[31mcome\\n'\n")
    program.chmod(0o755)
    error = refused(server, server.target(program))
    assert "expected the answer of a Python program, found 'Wel[31mcome'" in error.message


def test_a_wrong_host_key_is_refused(server: Server, tmp_path: Path) -> None:
    right = server.known_hosts.read_text()
    other = (server.folder / "user_key.pub").read_text()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
    try:
        error = refused(server, server.target())
    finally:
        server.known_hosts.write_text(right)
    assert "its host key is not the one known" in error.message
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in error.next_step


def test_an_unknown_host_key_is_not_accepted_for_the_user(server: Server) -> None:
    right = server.known_hosts.read_text()
    server.known_hosts.write_text("")
    try:
        error = refused(server, server.target())
        assert server.known_hosts.read_text() == ""
    finally:
        server.known_hosts.write_text(right)
    assert "its host key is not known here" in error.message
    assert "compare the fingerprint" in error.next_step


def test_a_key_that_is_not_let_in_is_named(server: Server) -> None:
    keys = server.folder / "authorized_keys"
    right = keys.read_text()
    keys.write_text("")
    try:
        error = refused(server, server.target())
    finally:
        keys.write_text(right)
    assert "it lets nobody in without a password" in error.message
    assert f"ssh-copy-id -p {server.port}" in error.next_step


def test_a_port_where_nothing_listens_is_named(server: Server) -> None:
    assert "no SSH server listens there" in refused(server, "cpu@ssh://root@127.0.0.1:1").message


def test_installing_says_whether_the_board_is_ready(server: Server) -> None:
    found = install_target(server.target())
    assert (found.unchanged, found.folder) == (True, None)
    with pytest.raises(TargetError, match="is not there"):
        install_target(server.target("/no/such/python3"))


def test_the_row_of_a_board_is_made_of_its_name(server: Server) -> None:
    row = target(server.target())
    assert isinstance(row, Target)
    assert (row.clock, row.remote, row.provider) == ("measured", True, "CPUExecutionProvider")
    assert row.why_not() is None
    assert "not there" in str(target(server.target("/no/such/python3")).why_not())


@pytest.mark.parametrize("name", ["cpu@ssh://-oProxyCommand=touch${IFS}/tmp/x", "cpu@ssh://a b", "cpu@ssh:board"])
def test_a_hostile_name_starts_nothing(server: Server, name: str) -> None:
    calls = server.folder / "calls"
    before = calls.read_text() if calls.exists() else ""
    with pytest.raises(UsageError, match="expected cpu@ssh://user@host"):
        require(name)
    assert (calls.read_text() if calls.exists() else "") == before
