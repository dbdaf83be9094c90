"""The PostgreSQL of `local-services`: it asks everybody for the password, also on its Unix socket."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from pipeline.daemon import Daemon, Service, ServiceFailed
from pipeline.errors import PipelineError
from pipeline.settings import Settings
from pipeline.steps import record

DATABASE = "postgresql"
_LONGEST_SOCKET_FOLDER = 90  # the name of a socket in it has to end within 108 bytes (unix(7))


def postgresql(chosen: Settings, home: Path) -> Service:
    """The server that the database's URL means: its data, its socket and its password are for one user alone."""
    url = record.parsed_url(chosen.database_url)
    host, port, user, data = url.host or "", url.port or 5432, url.username or "postgres", home / "postgresql"
    owner = "postgres" if os.geteuid() == 0 else None
    password, sockets = str(url.password or ""), home / "postgresql.socket"

    def own(path: Path) -> None:
        if owner is not None:
            os.chown(path, pwd.getpwnam(owner).pw_uid, pwd.getpwnam(owner).pw_gid)

    def make_cluster() -> None:
        for path in (data, sockets):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            own(path)
        if (data / "PG_VERSION").exists():
            _ask_for_password(data, user, password, owner)
            return
        secret = home / "postgresql.password"
        secret.touch(mode=0o600)
        secret.write_text(password + "\n", encoding="utf-8")
        own(secret)
        how = ["--auth", "scram-sha-256", "--pwfile", str(secret)]
        command = [_of_postgresql("initdb"), "-D", str(data), "-U", user, "--encoding", "UTF8", *how]
        try:
            _finish(command, owner, {})
        except PipelineError:
            shutil.rmtree(data)  # half a cluster would be taken for a whole one
            raise
        finally:
            secret.unlink()

    def make_database() -> None:
        connect = ["-h", host, "-p", str(port), "-U", user]
        query = [_of_postgresql("psql"), *connect, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database"]
        if url.database not in _finish(query, None, {"PGPASSWORD": password}).splitlines():
            _finish([_of_postgresql("createdb"), *connect, str(url.database)], None, {"PGPASSWORD": password})

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
    """A cluster that an earlier release made trusts every user of this host: it asks from now on."""
    rules = data / "pg_hba.conf"
    text = rules.read_text(encoding="utf-8")
    mended = re.sub(r"^((?:local|host)\b.*)\btrust[ \t]*$", r"\1scram-sha-256", text, flags=re.MULTILINE)
    if mended != text:
        how = ("-c", "password_encryption=scram-sha-256")
        alone = [_of_postgresql("postgres"), "--single", "-D", str(data), *how, "postgres"]
        quoted = user.replace('"', '""'), password.replace("'", "''")
        _finish(alone, owner, {}, said="ALTER ROLE \"{}\" PASSWORD '{}'\n".format(*quoted))
        with rules.open("r+", encoding="utf-8") as file:  # its owner and its mode stay
            file.write(mended)
            file.truncate()


def _of_postgresql(name: str) -> str:
    """A program of PostgreSQL, also where Debian hides it."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = shutil.which(name) or (found[-1] if found else None)
    if path is None:
        raise ServiceFailed(
            "[database] url is a PostgreSQL on this machine, and it is not installed",
            go_on="apt-get install postgresql, or another URL",
        )
    return path


def _finish(command: list[str], user: str | None, secrets: dict[str, str], *, said: str = "") -> str:
    """Run a program to its end, which is told that; its stdout."""
    environment = {**os.environ, **secrets}
    ended = subprocess.run(
        command, input=said, capture_output=True, text=True, check=False, user=user, cwd="/", env=environment
    )
    if ended.returncode:
        raise ServiceFailed(f"{Path(command[0]).name} exited {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return ended.stdout
