"""`run_pipeline.py …` without its first second: forked from a process that has imported everything already.

Most of what a call of a verb costs is the import of boto3, Luigi and SQLAlchemy, and tests make some two thousand such
calls. So a process of the test worker's own imports them once, and forks for each call: the child gets the call's
arguments, environment and streams, and runs the file `run_pipeline.py` as the interpreter would. It is a process of its
own all the same, that can be killed, and that forks its lanes. What starts before the imports, or is chosen by a
variable that is no setting of ours (`TZ`, `LC_ALL`), is tested by `Site.start`, which begins with the interpreter.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN_PIPELINE = ROOT / "run_pipeline.py"
_PREFIXES = ("PIPELINE_", "AWS_", "LUIGI_CONFIG_PATH", "PYTHON_DOTENV_DISABLED")
_NEVER_PRELOADED = {"demo"}  # it starts the program itself
_MOST_BYTES = 1 << 20
_FDS = 4  # stdin, stdout, stderr, and where the status is told


class Warm:
    """The process that forks; made at the first call, and gone with whoever made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a call with these variables is the same, forked or begun anew."""
        return all(
            name.startswith(_PREFIXES) or os.environ.get(name) == value for name, value in environment.items()
        ) and all(name in environment or name.startswith(_PREFIXES) for name in os.environ)

    def call(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], seconds: float
    ) -> "subprocess.CompletedProcess[str]":
        """`run_pipeline.py …`, to its end.

        Raises:
            subprocess.TimeoutExpired: it took longer, and was killed.
        """
        with contextlib.ExitStack() as until_end:
            out, err, told = (_Pipe(until_end) for _ in range(3))
            nothing = until_end.enter_context(open(os.devnull, "rb"))
            request = {"arguments": list(arguments), "environment": dict(environment), "folder": os.getcwd()}
            self._send(json.dumps(request).encode(), [nothing.fileno(), out.writing, err.writing, told.writing])
            for pipe in (out, err, told):
                pipe.close_writing()
            pid = struct.unpack("i", told.read_exactly(4))[0]
            ended = threading.Timer(seconds, _kill, [pid])
            ended.start()
            try:
                reader = threading.Thread(target=err.read)
                reader.start()
                out.read()
                reader.join()
                status = struct.unpack("i", told.read_exactly(4))[0]
            except BaseException:
                _kill(pid)
                raise
            finally:
                over = not ended.is_alive()
                ended.cancel()
            if over:
                raise subprocess.TimeoutExpired(list(arguments), seconds, out.text(), err.text())
        command = [sys.executable, str(RUN_PIPELINE), *arguments]
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), out.text(), err.text())

    def _send(self, body: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._socket is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._process = subprocess.Popen(
                    [sys.executable, "-X", "utf8", "-m", "tests.world.warm", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # buffered, as in a process whose output is read
                    cwd=ROOT,
                )
                theirs.close()
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
                self._socket = ours
            socket.send_fds(self._socket, [body], descriptors)

    def end(self) -> None:
        """It ends by itself when nobody can ask it any more."""
        with self._lock:
            if self._socket is not None and self._process is not None:
                self._socket.close()
                self._process.wait(30)
                self._socket = self._process = None


class _Pipe:
    def __init__(self, until_end: contextlib.ExitStack) -> None:
        self._reading, self.writing = os.pipe()
        self._told = bytearray()
        self._open = {self._reading, self.writing}
        until_end.callback(self._close)

    def _close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def close_writing(self) -> None:
        self._open.remove(self.writing)
        os.close(self.writing)

    def read(self) -> None:
        while block := os.read(self._reading, 1 << 16):
            self._told += block

    def read_exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            block = os.read(self._reading, count - len(found))
            assert block, "the warm process is gone: what it said last is on stderr"
            found += block
        return found

    def text(self) -> str:
        return self._told.decode().replace("\r\n", "\n")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until nobody can ask; returns in the process that is to run the program."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a child is a child of ours, that nobody waits for
    while True:
        body, ancillary, _flags, _address = requests.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(_FDS * 4))
        if not body:
            os._exit(0)
        descriptors = array.array("i")
        for _level, _kind, data in ancillary:
            descriptors.frombytes(data)
        if os.fork() == 0:
            requests.close()
            _run_and_tell(json.loads(body), list(descriptors))
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _run_and_tell(request: Any, descriptors: list[int]) -> None:
    """Fork once more, and tell how that process ended; returns in it, as the program is to be run."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told = descriptors.pop()
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        os.write(told, struct.pack("i", pid))
        _pid, status = os.waitpid(pid, 0)
        os.write(told, struct.pack("i", status))
        os._exit(0)
    os.close(told)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [str(RUN_PIPELINE), *request["arguments"]]


def _preload() -> None:
    import pipeline.cli.verbs  # noqa: PLC0415  # only in the process that serves
    from pipeline.foundation import aws  # noqa: PLC0415  # as above

    for module in pkgutil.iter_modules(pipeline.cli.verbs.__path__):
        if module.name not in _NEVER_PRELOADED:
            importlib.import_module(f"pipeline.cli.verbs.{module.name}")
    aws.preload()


def _main() -> None:
    _preload()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from pipeline.foundation import failpoints  # noqa: PLC0415  # it reads the environment when it is imported

    importlib.reload(failpoints)
    runpy.run_path(str(RUN_PIPELINE), run_name="__main__")


WARM = Warm()

if __name__ == "__main__":
    _main()
