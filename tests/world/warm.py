"""`run_pipeline.py …` without its first second: forked from a process that has imported everything already.

Most of what a call of a verb costs is the import of boto3, Luigi and SQLAlchemy, and tests make some two thousand such
calls. So a process of the test worker's own imports them once, and forks for each call: the child gets the call's
arguments, environment and streams, and runs the file `run_pipeline.py` as the interpreter would. It is a process of its
own all the same, that can be killed, and that forks its lanes. What starts before the imports, or is
chosen by a variable that Python reads when it starts (`LC_ALL`, `PYTHONPATH`), is tested by `start_anew`, which begins
with the interpreter.
"""

import array
import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN_PIPELINE = ROOT / "run_pipeline.py"
# Variables that are read when the program runs, not when it is imported.
_PREFIXES = (
    *("PIPELINE_", "AWS_", "LUIGI_CONFIG_PATH", "PYTHON_DOTENV_DISABLED", "PYTEST_"),
    *("HOME", "LOGNAME", "PATH", "TZ", "TERM", "NO_COLOR", "PYTHONUNBUFFERED"),
)
_NEVER_PRELOADED = {"demo"}  # it starts the program itself
# What verbs import while they run, as most of them do.
_IMPORTED_LATER = (
    *("pipeline.cli.main", "multiprocessing.sharedctypes", "multiprocessing.popen_fork", "encodings.idna"),
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.mysql.pymysql"),
    *("psycopg", "pymysql"),
)
_MOST_BYTES = 1 << 20
_FDS = 4  # stdin, stdout, stderr, and where the status is told


class Running(subprocess.Popen[str]):
    """A call of `run_pipeline.py` that was forked: waited for and hurt as if it had been started."""

    def __init__(self, arguments: Sequence[str], *, stderr: int, fork: Callable[[list[int]], None]) -> None:
        self._fork = fork
        super().__init__(
            [sys.executable, str(RUN_PIPELINE), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def _execute_child(self, *told: Any) -> None:
        pipes = told[10:16]  # to its standard input, from its output, from its errors: two ends each
        reading, writing = os.pipe()
        try:
            self._fork([pipes[0], pipes[3], pipes[5], writing])
        finally:
            os.close(writing)
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # as the method that this one stands for does
        self._told = open(reading, "rb", buffering=0)  # noqa: SIM115  # until it has told how the process ended
        self.pid = struct.unpack("i", self._read())[0]
        self._child_created = True

    def _read(self) -> bytes:
        found = self._told.read(4)
        assert found, "the warm process is gone: what it said last is on stderr"
        return found

    def _internal_poll(self, *_args: Any, **_deadstate: Any) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        with self._waitpid_lock:  # type: ignore[attr-defined]  # the one that all ways to the status take
            if self.returncode is None:
                if not select.select([self._told], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self.returncode = os.waitstatus_to_exitcode(struct.unpack("i", self._read())[0])
                self._told.close()
        return self.returncode


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

    def start(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, stderr: int
    ) -> "subprocess.Popen[str]":
        """`run_pipeline.py …` in the background; the caller waits for it."""
        request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        body = json.dumps(request).encode()
        return Running(arguments, stderr=stderr, fork=lambda descriptors: self._send(body, descriptors))

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
    time.tzset()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    os.chdir(request["folder"])
    sys.argv = [str(RUN_PIPELINE), *request["arguments"]]


def _preload() -> None:
    import pipeline.cli.verbs  # noqa: PLC0415  # only in the process that serves
    from pipeline import record  # noqa: PLC0415  # as above
    from pipeline.cli import usage  # noqa: PLC0415  # as above
    from pipeline.embedded import stack  # noqa: PLC0415  # as above
    from pipeline.foundation import aws  # noqa: PLC0415  # as above
    from pipeline.record import tables  # noqa: PLC0415  # as above

    for module in pkgutil.iter_modules(pipeline.cli.verbs.__path__):
        if module.name not in _NEVER_PRELOADED:
            importlib.import_module(f"pipeline.cli.verbs.{module.name}")
    for name in _IMPORTED_LATER:
        importlib.import_module(name)
    aws.preload()
    # What a process makes once: patterns, and what statements and clients are made of. Nothing is connected.
    usage.parser().parse_args(["run"])
    tables.bags.select().compile(record.connect("sqlite://"))
    for client in stack.clients("http://127.0.0.1:9"):
        client.close()


def _end(status: int) -> None:
    """End as the interpreter does: threads, what was to be done at exit, streams; but every module is left as it is.

    To take all modules apart costs three times as much as the fork, since each of their pages has to be copied for it.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls, as multiprocessing does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            return  # the interpreter has its own word for it, and its own status
    os._exit(status)


def _main() -> None:
    _preload()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from pipeline.foundation import failpoints  # noqa: PLC0415  # it reads the environment when it is imported

    importlib.reload(failpoints)
    try:
        runpy.run_path(str(RUN_PIPELINE), run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _end(ended.code)
        raise


WARM = Warm()


def start(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stderr: int = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    """`run_pipeline.py …` in the background, without its first second where that makes no difference."""
    begin = WARM.start if WARM.takes(environment) else start_anew
    return begin(arguments, environment=environment, folder=folder or Path.cwd(), stderr=stderr)


def start_anew(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stderr: int = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    """`run_pipeline.py …` in the background, from the first instruction of the interpreter."""
    return subprocess.Popen(
        [sys.executable, str(RUN_PIPELINE), *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", *, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
    """The process at its end, with all that it said.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    try:
        out, err = process.communicate(timeout=seconds)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


if __name__ == "__main__":
    _main()
