"""`local-services up|down|status|reset`: what the settings say runs on this machine, without Docker.

Which services these are is read from the settings themselves: the scheduler if its URL is on loopback; in development
also moto for every `[source]` whose `endpoint_url` is on loopback, and PostgreSQL if the database's URL is. What lies
elsewhere is left to whoever runs it.
"""

import argparse
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pipeline import record, settings
from pipeline.embedded import stack
from pipeline.embedded.daemon import Daemon, Service, ServiceFailed, only_one
from pipeline.foundation import aws, guarded, removal
from pipeline.foundation.errors import PipelineError, SettingsError, UsageError
from pipeline.foundation.work import SCHEDULER_USER
from pipeline.operations import show
from pipeline.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
_HOME = _ROOT / "var" / "services"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_DATABASE = "postgresql"
_LONGEST_SOCKET_FOLDER = 90  # the name of a socket in it has to end within 108 bytes (unix(7))
EXIT_DONE, EXIT_USAGE, EXIT_UNREACHABLE = 0, 2, 3


def main(arguments: Sequence[str]) -> int:
    """Run the verb; 0 when all is as asked, 2 for wrong usage or settings, 3 when something does not run."""
    options = _parser().parse_args(arguments)
    home = options.home.absolute()
    try:
        with only_one(home):
            if options.verb == "down":  # whatever the settings say by now, or whether they can be read
                return _down(home)
            chosen = settings.load(make_password=options.verb == "up")
            return _VERBS[options.verb](chosen, list(_services(chosen, home)), options)
    except (PipelineError, OSError) as error:
        for line in error.problems if isinstance(error, SettingsError) else [str(error)]:
            sys.stderr.write(f"local-services: {line}\n")
        return EXIT_USAGE if isinstance(error, SettingsError | UsageError) else EXIT_UNREACHABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="local-services",
        description="Starts and stops what the settings say runs on this machine: luigid; in development also moto "
        "(S3 and SQS) and PostgreSQL.",
        epilog="exit status: 0 all is as asked; 2 wrong usage or settings; 3 something does not run",
    )
    parser.add_argument(
        "verb",
        choices=["up", "down", "status", "reset"],
        help="reset: down, and delete what they keep; development only",
    )
    parser.add_argument("--home", type=Path, default=_HOME, metavar="DIR", help="pid files, logs and data")
    parser.add_argument("--yes", action="store_true", help="reset without asking")
    return parser


def _services(chosen: Settings, home: Path) -> Iterator[Service]:
    url = urlsplit(chosen.scheduler.url)
    if url.hostname in _LOOPBACK:
        yield _luigid(chosen, home)
    if chosen.environment != "dev":
        return
    seen: set[int] = set()
    for source in chosen.sources:
        url = urlsplit(source.endpoint_url)
        if url.hostname in _LOOPBACK and (url.port or 80) not in seen:
            seen.add(url.port or 80)
            yield _moto(chosen, home, url.hostname, url.port or 80)
    database = record.parsed_url(chosen.database_url)
    if database.get_backend_name() == "postgresql" and database.host in _LOOPBACK:
        yield postgresql(chosen, home)


def _luigid(chosen: Settings, home: Path) -> Service:
    url, state = urlsplit(chosen.scheduler.url), home / "luigid.pickle"
    host, port, file = url.hostname or "", url.port or 80, chosen.scheduler.password_file

    def keep_password() -> None:
        if url.password and not (file.exists() and file.read_text(encoding="utf-8").strip() == url.password):
            raise ServiceFailed(
                f"luigid: the URL of the scheduler has a password, and {file} another, or none",
                by_hand="take user and password out of the URL: lanes take them from that file",
            )

    where = ("--address", host, "--port", str(port), "--state-path", str(state), "--password-file", str(file))
    command = (sys.executable, "-m", "pipeline.operations.door", *where)
    address = f"http://{host}:{port}/static/visualiser/index.html (user {SCHEDULER_USER}, password in {file})"
    daemon = Daemon("luigid", home, command, environment={"PYTHONPATH": str(_ROOT)})
    return Service(daemon, address, host, port, before=keep_password, data=(state,))


def _moto(chosen: Settings, home: Path, host: str, port: int) -> Service:
    def make_queues() -> None:
        for source in chosen.sources:
            if urlsplit(source.endpoint_url).port == port:
                s3, sqs = stack.clients(source.endpoint_url, region=source.region)
                dead_letters = f"{source.queue}DeadLetters"
                with aws.failures_named(f"[source {source.name}] cannot be made on moto"):
                    stack.set_up_aws(s3, sqs, bucket=source.bucket, queue=source.queue, dead_letters=dead_letters)

    command = (sys.executable, "-m", "moto.server", "-H", host, "-p", str(port))
    daemon = Daemon(f"moto-{port}", home, command, environment={"MOTO_ACCOUNT_ID": "123456789012"})
    return Service(daemon, f"http://{host}:{port} (forgets everything when it ends)", host, port, after=make_queues)


def postgresql(chosen: Settings, home: Path) -> Service:
    """The server that the database's URL means: its data, its socket and its password are for one user alone.

    It asks everybody for the password, also on its Unix socket.
    """
    url = record.parsed_url(chosen.database_url)
    host, port, user, data = url.host or "", url.port or 5432, url.username or "postgres", home / "postgresql"
    owner = "postgres" if os.geteuid() == 0 else None
    password, sockets = str(url.password or ""), home / "postgresql.socket"

    def make_cluster() -> None:
        for path in (data, sockets):
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            with guarded.opened(path) as folder:
                if owner is not None:
                    os.fchown(folder, pwd.getpwnam(owner).pw_uid, pwd.getpwnam(owner).pw_gid)
        if not (data / "PG_VERSION").exists():
            try:
                _finish([_of_postgresql("initdb"), "-D", str(data), "-U", user, "--encoding", "UTF8"], owner)
            except PipelineError:
                removal.remove_tree(data)  # half a cluster would be taken for a whole one
                raise
        _ask_for_password(data, user, password, owner)

    def make_database() -> None:
        connect = ["-h", host, "-p", str(port), "-U", user]
        query = [_of_postgresql("psql"), *connect, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database"]
        if url.database not in _finish(query, PGPASSWORD=password).splitlines():
            _finish([_of_postgresql("createdb"), *connect, str(url.database)], PGPASSWORD=password)

    command = (
        _of_postgresql("postgres"),
        "-D",
        str(data),
        "-h",
        host,
        "-p",
        str(port),
        "-c",
        f"unix_socket_directories={sockets if len(os.fsencode(sockets)) < _LONGEST_SOCKET_FOLDER else ''}",
    )
    daemon = Daemon(_DATABASE, home, command, stop_signal=signal.SIGINT, user=owner)
    address = url.render_as_string(hide_password=True)
    return Service(daemon, address, host, port, before=make_cluster, after=make_database, data=(data, sockets))


def _ask_for_password(data: Path, user: str, password: str, owner: str | None) -> None:
    """Before it starts: whoever made the cluster, and whomever it trusts, it asks everybody for this password."""
    how = ("-c", "password_encryption=scram-sha-256")
    alone = [_of_postgresql("postgres"), "--single", "-D", str(data), *how, "postgres"]
    quoted = user.replace('"', '""'), password.replace("'", "''")
    _finish(alone, owner, said="ALTER ROLE \"{}\" PASSWORD '{}'\n".format(*quoted))
    rules = r"s/^((local|host)\b.*)\btrust[[:blank:]]*$/\1scram-sha-256/"
    _finish(["sed", "-E", "-i", rules, str(data / "pg_hba.conf")], owner)  # as its owner, who could make it a link


def _of_postgresql(name: str) -> str:
    """A program of PostgreSQL, also where Debian hides it."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = shutil.which(name) or (found[-1] if found else None)
    if path is None:
        raise ServiceFailed(
            "[database] url is a PostgreSQL on this machine, and it is not installed",
            by_hand="install it (apt-get install postgresql), or name another URL",
        )
    return path


def _finish(command: list[str], user: str | None = None, *, said: str = "", **secrets: str) -> str:
    """Run a program to its end, which is told that; its stdout."""
    environment = {**os.environ, **secrets}
    ended = subprocess.run(
        command, input=said, capture_output=True, text=True, check=False, user=user, cwd="/", env=environment
    )
    if ended.returncode:
        raise ServiceFailed(f"{Path(command[0]).name} exited {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return ended.stdout


def _up(chosen: Settings, services: list[Service], _options: argparse.Namespace) -> int:
    started: list[Service] = []
    try:
        for service in services:
            if not service.daemon.pid():
                service.claim()
                service.before()
                started.append(service)
                service.daemon.start(service.answers)
                service.after()
    except BaseException:
        for service in reversed(started):
            service.daemon.stop()
        raise
    engine = record.connect(chosen.database_url)
    try:
        record.prepare(engine)
    finally:
        engine.dispose()
    _tell(chosen, services)
    return EXIT_DONE


def _down(home: Path) -> int:
    """Stop all that has a pid file here, the database last."""
    for file in sorted(home.glob("*.pid"), key=lambda file: (file.stem == _DATABASE, file.stem)):
        stop_signal = signal.SIGINT if file.stem == _DATABASE else signal.SIGTERM
        ran = Daemon(file.stem, home, (), stop_signal=stop_signal).stop()
        sys.stdout.write(f"{file.stem}: {'stopped' if ran else 'did not run any more'}\n")
    return EXIT_DONE


def _status(chosen: Settings, services: list[Service], _options: argparse.Namespace) -> int:
    _tell(chosen, services)
    return EXIT_DONE if all(service.daemon.pid() for service in services) else EXIT_UNREACHABLE


def _reset(chosen: Settings, services: list[Service], options: argparse.Namespace) -> int:
    if chosen.environment != "dev":
        raise UsageError("reset deletes databases: in development only (PIPELINE_ENV=dev)")
    doomed = [path for service in services for path in service.data]
    database = record.parsed_url(chosen.database_url)
    if database.get_backend_name() == "sqlite" and database.database:
        doomed += [Path(f"{database.database}{end}") for end in ("", "-wal", "-shm")]
    show.agreed(f"{', '.join(map(str, doomed)) or 'Nothing'} will be deleted. Delete?", yes=options.yes)
    _down(options.home.absolute())
    for path in filter(Path.exists, doomed):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        sys.stdout.write(f"{path}: deleted\n")
    return EXIT_DONE


def _tell(chosen: Settings, services: list[Service]) -> None:
    rows = [
        {
            "service": service.daemon.name,
            "state": f"runs ({pid})" if (pid := service.daemon.pid()) else "does not run",
            "where": service.address,
        }
        for service in services
    ]
    database = record.parsed_url(chosen.database_url)
    if not any(service.daemon.name == _DATABASE for service in services):
        where = database.render_as_string(hide_password=True)
        rows.append({"service": "database", "state": "no server of ours", "where": where})
    show.tell(show.console(), rows)


_VERBS = {"up": _up, "status": _status, "reset": _reset}
