"""What all hosts of a site share, as one operator's machine has it: S3, SQS, luigid, PostgreSQL, the archive.

S3 is SeaweedFS, SQS moto, luigid stands behind its door; what is asked of the last two is counted by name.
`python -m benchmarks.hub sqs|luigid …` is how the two are started here.
"""

import contextlib
import logging
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy
from moto.moto_server import werkzeug_app
from werkzeug.serving import make_server

from benchmarks import seaweed, site, tree
from pipeline.embedded import embedded, stack
from pipeline.embedded.watched import RUN_PIPELINE
from pipeline.foundation import aws, work
from pipeline.operations import door

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_BUCKET, _QUEUE, _SECRET = "hub", "HubReady", "hub"
_START_SECONDS = 60
_CALL = "hub-call "


@dataclass(frozen=True)
class Hub:
    """The running servers, and what their clients are told of them."""

    home: Path
    address: str
    s3: "S3Client"
    sqs: "SQSClient"
    queue_url: str
    luigid_url: str
    database_url: str
    processes: dict[str, psutil.Process]

    def environment(self, host: str) -> dict[str, str]:
        """With which `run_pipeline.py` is a host of this name, with folders of its own and the archive of all."""
        own = self.home / host
        own.mkdir(exist_ok=True)
        told = {
            "LUIGI_CONFIG_PATH": str(self.home / "luigi.cfg"),
            "PYTHON_DOTENV_DISABLED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_ENDPOINT_URL_S3": self.s3.meta.endpoint_url,
            "AWS_ENDPOINT_URL_SQS": self.sqs.meta.endpoint_url,
            "PIPELINE_SCHEDULER_URL": self.luigid_url,
            "PIPELINE_DATABASE_URL": self.database_url,
            "PIPELINE_PIPELINE_HOST": host,
            **{f"PIPELINE_PIPELINE_{name.upper()}": str(own / name) for name in ("staging", "quarantine", "logs")},
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
        return {**inherited, **embedded.CREDENTIALS, **told}

    def command(self, *arguments: str) -> list[str]:
        """The command line of `run_pipeline.py`."""
        return [sys.executable, str(RUN_PIPELINE), *arguments]

    def announce(self, bag_zip: Path, *, times: int = 1) -> None:
        """Move a bag into S3, and tell the queue of it so many times, as S3 may."""
        key = work.staging_key(work.rid_from_name(bag_zip.name))
        seaweed.put(self.s3, bag_zip, bucket=_BUCKET, key=key)
        bag_zip.unlink()
        head = self.s3.head_object(Bucket=_BUCKET, Key=key)
        body = site.message(key, head["ETag"], head["ContentLength"], bucket=_BUCKET)
        for _ in range(times):
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each server so far."""
        return {name: tree.cpu_seconds(tree.members(process.pid)) for name, process in self.processes.items()}

    def calls(self) -> dict[str, Counter[str]]:
        """What was asked of SQS and of luigid so far, by name; and PostgreSQL, where `counting` made it tell."""
        told = {name: Counter[str]() for name in ("sqs", "luigid")}
        for name, counter in told.items():
            lines = (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            counter.update(line.partition(_CALL)[2] for line in lines if _CALL in line)
        log = (self.home / "database" / "server.log").read_text(encoding="utf-8", errors="replace")
        kinds = (line.partition("LOG:  ")[2] for line in log.splitlines())
        told["database"] = Counter("statement" for kind in kinds if kind.startswith(("statement:", "execute ")))
        return told

    def counting(self, *, on: bool) -> None:
        """Have PostgreSQL write down each statement, or not; it costs, so not while CPU is measured."""
        value = "all" if on else "none"
        self._execute(f"ALTER SYSTEM SET log_statement = '{value}'", "SELECT pg_reload_conf()")
        time.sleep(0.5)  # each process of the server reads it on its own

    def count(self, query: str) -> int:
        """The number that a query tells."""
        return int(self._execute(query) or 0)

    def _execute(self, *statements: str) -> Any:
        engine = sqlalchemy.create_engine(self.database_url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                answers = [connection.exec_driver_sql(statement) for statement in statements]
                return answers[-1].scalar() if answers[-1].returns_rows else None
        finally:
            engine.dispose()


@contextlib.contextmanager
def hub(home: Path, *, address: str = "127.0.0.1") -> Iterator[Hub]:
    """The servers on this address, the tables made; all end when the block does.

    Raises:
        CommandFailed: a server is not installed, or did not start.
    """
    (home / "archive").mkdir(parents=True)
    home.chmod(0o755)
    (home / "luigi.cfg").write_text(_luigi_cfg(home), encoding="utf-8")
    (home / "secret").write_text(_SECRET, encoding="ascii")
    (home / "secret").chmod(0o600)
    sqs_port, luigid_port, database_port = (_free_port(address) for _ in range(3))
    ours = [sys.executable, "-m", "benchmarks.hub"]
    known = ["--host", address, "--state-path", str(home / "luigid.pickle"), "--password-file", str(home / "secret")]
    with (
        seaweed.server(home / "s3", address=address) as s3,
        _server(home, "sqs", [*ours, "sqs", address, str(sqs_port)], (address, sqs_port)) as sqs_server,
        _server(
            home,
            "luigid",
            [*ours, "luigid", "--address", address, "--port", str(luigid_port), *known],
            (address, luigid_port),
        ) as luigid,
        _postgresql(home / "database", address, database_port) as database,
        stack.credentials(),
    ):
        sqs = aws.sqs_client(region="us-east-1", endpoint_url=f"http://{address}:{sqs_port}")
        queue_url = sqs.create_queue(QueueName=_QUEUE)["QueueUrl"]
        s3.create_bucket(Bucket=_BUCKET)
        made = Hub(
            home=home,
            address=address,
            s3=s3,
            sqs=sqs,
            queue_url=queue_url,
            luigid_url=f"http://pipeline:{_SECRET}@{address}:{luigid_port}",
            database_url=f"postgresql+psycopg://bench@{address}:{database_port}/postgres",
            processes={"sqs": sqs_server, "luigid": luigid, "database": database, "s3": _weed()},
        )
        subprocess.run(
            made.command("db", "upgrade"), env=made.environment("hub"), check=True, stdout=subprocess.DEVNULL
        )
        yield made


def _weed() -> psutil.Process:
    return next(child for child in psutil.Process().children() if child.name() == "weed")


def _luigi_cfg(home: Path) -> str:
    return f"""\
[pipeline]
environment = dev
archive_root = {home}/archive
margin_bytes = 16777216
[source hub]
region = us-east-1
bucket = {_BUCKET}
queue = {_QUEUE}
[core]
rpc_retry_attempts = 3
rpc_retry_wait = 1
rpc_connect_timeout = 10
[worker]
keep_alive = false
ping_interval = 5
timeout = 0
[scheduler]
worker_disconnect_delay = 15
prune_on_get_work = true
remove_delay = 3600
stable_done_cooldown_secs = 0
record_task_history = false
"""


@contextlib.contextmanager
def _server(
    home: Path, name: str, command: Sequence[str], at: tuple[str, int], *, user: str | None = None
) -> Iterator[psutil.Process]:
    environment = {**os.environ, "LUIGI_CONFIG_PATH": str(home / "luigi.cfg"), "MOTO_ACCOUNT_ID": "123456789012"}
    log = home / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, user=user
        )
    try:
        over = time.monotonic() + _START_SECONDS
        while not _answers(at):
            if process.poll() is not None or time.monotonic() > over:
                raise tree.CommandFailed(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _postgresql(data: Path, address: str, port: int) -> Iterator[psutil.Process]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb", path=os.pathsep.join(map(str, [*programs, *os.get_exec_path()])))
    if initdb is None:
        raise tree.CommandFailed("PostgreSQL is missing: apt-get install postgresql")
    user = "postgres" if os.geteuid() == 0 else None
    data.mkdir()
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(data, entry.pw_uid, entry.pw_gid)
    made = [initdb, "--pgdata", str(data / "data"), "--username", "bench", "--auth", "trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd=data)
    with (data / "data" / "pg_hba.conf").open("a", encoding="ascii") as rules:
        rules.write("host all all 10.77.0.0/16 trust\n")
    command = [str(Path(initdb).resolve().parent / "postgres"), "-D", str(data / "data"), "-p", str(port)]
    command += ["-h", address, "-k", "", "-F"]  # -F: no test pulls its plug
    with _server(data, "server", command, (address, port), user=user) as process:
        yield process


def _answers(at: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(at, timeout=1):
            return True
    except OSError:
        return False


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _say_call(name: str) -> None:
    sys.stderr.write(f"{_CALL}{name}\n")


def _serve_sqs(address: str, port: int) -> None:
    app = embedded.OneChangeAtATime(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))

    def counted(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        _say_call(environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2])
        return app(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    make_server(address, port, counted, threaded=True, request_handler=werkzeug_app.MotoRequestHandler).serve_forever()


def _serve_luigid(arguments: Sequence[str]) -> int:
    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say_call(record.getMessage().split()[2].rpartition("/")[2])

    access = logging.getLogger("tornado.access")
    access.setLevel(logging.INFO)
    access.addHandler(Counting())
    return door.main(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "sqs":
        _serve_sqs(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(_serve_luigid(sys.argv[2:]))
