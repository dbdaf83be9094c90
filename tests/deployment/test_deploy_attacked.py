"""`deploy` as root, while the workers, or somebody else on the machine, want root's files or root's word."""

import hashlib
import os
import re
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.deployment.test_deploy import deploy, home, variables
from tests.world.stack import lines

__all__ = ["home"]  # the operator's home folder, a fixture
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, and become another user")
WORKERS, LATER_WORKERS, STRANGER = 5000, 5001, 5002


def attack(user: int, folder: Path, script: str) -> int:
    """Run as this user, in this folder, whatever leads to it; the exit status."""
    return subprocess.run(
        ["bash", "-ec", script], cwd=folder, user=user, group=user, extra_groups=[], capture_output=True, check=False
    ).returncode


def owner(path: Path) -> int:
    return path.lstat().st_uid


@as_root
def test_the_workers_change_nothing_that_root_reads_or_runs(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--dev")

    for attempt in (
        "mv .env .env.old",
        "echo PIPELINE_IMAGE=evil >>.env",
        "echo 'services: {}' >compose.yaml",
        "rm -f docker-compose.yaml",
        "mv data elsewhere",
        "echo x >.config/pipeline/luigi.cfg",
        "rm -r .docker-secrets",
        "cat .docker-secrets/db_password",  # in a container it is mounted where they may
    ):
        assert attack(WORKERS, dest, attempt) != 0, attempt
    for path in (dest, dest / ".env", dest / "docker-compose.yaml", dest / ".deployed", *(dest / ".config").rglob("*")):
        assert owner(path) == 0, path
    for path in (dest / name for name in ("data", "logs", "luigid", "archive", "archive/Archive3/99")):
        assert owner(path) == WORKERS, path


@as_root
def test_links_in_the_workers_folders_lead_root_nowhere(home: Path, tmp_path: Path) -> None:
    dest, victim = tmp_path / "d", tmp_path / "victim"
    deploy(home, "--dest", dest, "--dev")
    (victim / "etc").mkdir(parents=True)
    (victim / "shadow").write_text("root's\n")
    before = {path: path.stat() for path in (victim, victim / "etc", victim / "shadow")}
    assert attack(WORKERS, dest / "data", "echo mine >mine; mkdir -p a/b; ln -s ../../victim link; mkfifo pipe") == 0
    assert attack(WORKERS, dest / "archive", f"rm -r Archive3 sync-transfer; ln -s {victim}/etc Archive3") == 0
    # protected_hardlinks may be 0: then anybody can give root's file a second name
    os.link(victim / "shadow", dest / "data" / "a" / "hard")

    again = deploy(home, "--dest", dest, "--dev", "--uid", str(LATER_WORKERS))

    for path, was in before.items():
        assert (path.stat().st_uid, path.stat().st_mode) == (was.st_uid, was.st_mode), path
    assert list((victim / "etc").iterdir()) == []
    assert (owner(dest / "data" / "mine"), owner(dest / "data" / "a" / "b")) == (LATER_WORKERS, LATER_WORKERS)
    assert lines(again.stdout, "gave what user 5000 wrote", "user 5001")


@as_root
def test_while_files_are_swapped_for_links_no_file_of_root_changes_hands(home: Path, tmp_path: Path) -> None:
    dest, victim = tmp_path / "d", tmp_path / "victim"
    deploy(home, "--dest", dest, "--dev")
    victim.write_text("root's\n")
    attack(WORKERS, dest / "data", "mkdir many; cd many; echo x >mine; for n in {1..50}; do ln mine $n; done")
    # As root, since the kernel may forbid others what an attacker could do elsewhere.
    swap = f"while :; do for n in {{1..50}}; do ln -f {victim} $n; ln -f mine $n; ln -sfn {victim} $n; done; done"
    swapping = subprocess.Popen(["bash", "-c", swap], cwd=dest / "data" / "many", stderr=subprocess.DEVNULL)
    try:
        for user in (LATER_WORKERS, WORKERS):
            deploy(home, "--dest", dest, "--dev", "--uid", str(user))
    finally:
        swapping.kill()
        swapping.wait()

    assert owner(victim) == 0


@as_root
def test_what_the_workers_of_an_older_release_own_is_read_by_a_person_first(home: Path, tmp_path: Path) -> None:
    dest, victim = tmp_path / "d", tmp_path / "shadow"
    deploy(home, "--dest", dest, "--dev")
    victim.write_text("root's\n")
    victim.chmod(0o600)
    for path in (dest, *dest.glob(".env"), dest / ".docker-secrets", *(dest / ".config").rglob("*")):
        os.lchown(path, WORKERS, WORKERS)
    planted = f"echo PIPELINE_IMAGE=evil >>.env; ln -s {victim} .env.old; ln -sf {victim} .docker-secrets/webhook"
    assert attack(WORKERS, dest, planted) == 0
    (dest / ".docker-secrets" / "drs.config").unlink()
    os.link(victim, dest / ".docker-secrets" / "drs.config")

    refused = deploy(home, "--dest", dest, "--dev")

    assert refused.returncode == 1
    for name in (".env ", ".env.old ", "webhook ", "drs.config ", "luigi.cfg "):
        assert f"{name}(" in refused.stderr, name
    assert attack(WORKERS, dest, "mv .env .env.1") != 0  # nothing can be swapped while a person reads
    assert "PIPELINE_IMAGE=evil" in (dest / ".env").read_text()
    (dest / ".env").write_text((dest / ".env").read_text().replace("PIPELINE_IMAGE=evil\n", ""))
    for told in refused.stderr.splitlines():
        if told.startswith(("chown ", "rm ")):
            subprocess.run(shlex.split(told), check=True)
    assert deploy(home, "--dest", dest, "--dev").returncode == 0
    assert (owner(victim), stat.S_IMODE(victim.stat().st_mode)) == (0, 0o600)
    assert (owner(dest), owner(dest / ".env"), owner(dest / ".docker-secrets" / "webhook")) == (0, 0, WORKERS)


@as_root
def test_nothing_is_deployed_where_a_stranger_could_put_something_else_in_its_place(home: Path, tmp_path: Path) -> None:
    theirs, open_to_all, full = tmp_path / "theirs", tmp_path / "open", tmp_path / "full"
    for folder in (theirs, open_to_all, full):
        folder.mkdir()
    os.chown(theirs, STRANGER, STRANGER)
    open_to_all.chmod(0o777)
    (full / "root's").touch()

    for arguments in (
        ("--dest", theirs / "d", "--prod"),
        ("--dest", open_to_all / "d", "--prod"),
        ("--init-env", theirs / "a"),
        ("--init-env", full),
    ):
        refused = deploy(home, *arguments)

        assert refused.returncode == 1, arguments
        assert lines(refused.stderr, "chown") or lines(refused.stderr, "chmod"), arguments
    assert list(theirs.iterdir()) == list(open_to_all.iterdir()) == []
    assert owner(full) == 0


def test_no_digest_of_a_secret_is_kept(home: Path, tmp_path: Path) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--dev")
    secrets = [file for file in (dest / ".docker-secrets").iterdir() if file.stat().st_size]
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in secrets}
    record = dest / ".deployed"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    record.write_text("".join(f"{digest}  - /a/file\n" for digest in digests))  # of an older release

    deploy(home, "--dest", dest, "--dev")

    everything = "".join(path.read_text(errors="replace") for path in dest.rglob("*") if path.is_file())
    assert [digest for digest in digests if digest in everything] == []


def test_a_password_in_the_variables_is_for_nobody_else_to_read_and_has_a_better_place(
    home: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "d"
    deploy(home, "--dest", dest, "--dev")
    env, settings = dest / ".env", dest / ".config" / "pipeline" / "luigi.cfg"
    plain = env.read_text()
    assert (stat.S_IMODE(env.stat().st_mode), stat.S_IMODE(settings.stat().st_mode)) == (0o644, 0o644)
    env.write_text(plain.replace("DATABASE_URL=", "DATABASE_URL=mysql+pymysql://me:hunter2@db/drs"))
    settings.write_text("[notify]\nsmtp_password = hunter2\n")

    told = deploy(home, "--dest", dest, "--dev")
    deploy(home, "--dest", dest, "--prod")  # keeps the old ones beside the new

    assert lines(told.stdout, "/.env holds a password", "db_password")
    assert lines(told.stdout, "/luigi.cfg holds a password")
    assert "hunter2" not in told.stdout + told.stderr
    holding = [path for path in dest.rglob("*") if path.is_file() and "hunter2" in path.read_text(errors="replace")]
    assert len(holding) == 2
    assert [path for path in holding if path.stat().st_mode & 0o007] == []

    env.write_text(plain)
    deploy(home, "--dest", dest, "--dev")
    assert stat.S_IMODE(env.stat().st_mode) == 0o644


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake without a network; raises what the client has against the server."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname=name)]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed; .ci/run installs it")
def test_the_scheduler_s_certificate_is_for_this_machine_alone_and_ends(home: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "d" / ".docker-secrets"
    deploy(home, "--dest", tmp_path / "d", "--dev")
    shown = subprocess.run(
        ["openssl", "x509", "-in", secrets / "proxy.crt", "-noout", "-enddate", "-ext", "basicConstraints"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=secrets / "proxy.crt")
    server.load_cert_chain(secrets / "proxy.crt", secrets / "proxy.key")
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does

    shake_hands(server, client, socket.gethostname())
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(server, client, "elsewhere.example.org")
    assert "CA:FALSE" in shown
    until = re.search(r"notAfter=(.*) GMT", shown)
    assert until
    assert (datetime.strptime(until[1], "%b %d %H:%M:%S %Y").replace(tzinfo=UTC) - datetime.now(UTC)).days <= 825


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed; .ci/run installs it")
def test_a_certificate_that_ends_soon_or_makes_others_is_to_be_renewed(home: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "d" / ".docker-secrets"
    deploy(home, "--dest", tmp_path / "d", "--dev")
    for days, extension, told in ((20, "CA:FALSE", "ends within 30 days"), (3650, "CA:TRUE", "for any name")):
        (secrets / "proxy.crt").unlink()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", str(days), "-subj", "/CN=x",
             "-addext", f"basicConstraints=critical,{extension}",
             "-keyout", "/dev/null", "-out", secrets / "proxy.crt"],
            capture_output=True, check=True,
        )  # fmt: skip

        renewed = lines(deploy(home, "--dest", tmp_path / "d", "--dev").stdout, "to do:", told)

        assert renewed
        assert f"rm {secrets / 'proxy.key'} {secrets / 'proxy.crt'}, deploy again" in renewed[0]
    for name in ("proxy.key", "proxy.crt"):
        (secrets / name).unlink()
    assert not lines(deploy(home, "--dest", tmp_path / "d", "--dev").stdout, "to do:", "proxy.crt")
    assert variables(tmp_path / "d")["PIPELINE_ENV"] == "dev"
