"""The PostgreSQL of `local-services`: it asks everybody for the password, also on its Unix socket."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from pipeline import record
from pipeline.embedded.daemon import Daemon, Service, ServiceFailed
from pipeline.foundation import guarded
from pipeline.foundation.errors import PipelineError
from pipeline.settings import Settings

DATABASE = "postgresql"
_LONGEST_SOCKET_FOLDER = 90  # the name of a socket in it has to end within 108 bytes (unix(7))


def postgresql(chosen: Settings, home: Path) -> Service:
    """The server that the database's URL means: its data, its socket and its password are for one user alone."""
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
                guarded.remove_tree(data)  # half a cluster would be taken for a whole one
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
    daemon = Daemon(DATABASE, home, command, stop_signal=signal.SIGINT, user=owner)
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
