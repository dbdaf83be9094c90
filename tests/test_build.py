"""`build`: what goes into the image is gathered and judged before anything is built."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.stack import ROOT


def build(tmp_path: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [str(ROOT / "build"), "--gather-only", *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "syncOneWork.sh").write_text('#!/bin/bash\npassword=$1\nlogin "$password"\n')
    return folder


def test_a_site_s_own_files_lie_where_the_dockerfile_takes_them_from(tmp_path: Path, scripts: Path) -> None:
    (tmp_path / "audit.deb").write_bytes(b"!<arch>\n")
    (tmp_path / "site.txt").write_text("bdrc-util==1.0\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "site-sync.yml").write_text("sync: {web: false}\n")

    options = {"sync-scripts": scripts, "requirements": tmp_path / "site.txt", "audit-tool": tmp_path / "audit.deb"}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    gathered = build(tmp_path, "--build-dir", tmp_path / "context", "--config", tmp_path / "config", *given)

    assert gathered.returncode == 0, gathered.stderr
    site = tmp_path / "context" / "docker" / "site"
    assert (site / "bin" / "syncOneWork.sh").read_text().startswith("#!/bin/bash\npassword=$1")
    assert (site / "packages" / "audit.deb").exists()
    assert (site / "requirements" / "site.txt").exists()
    assert (site / "config" / "site-sync.yml").exists()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (tmp_path / "context" / name).exists(), name
    names = {path.name for path in (tmp_path / "context").rglob("*")}
    assert not names & {".git", ".env", "tests", "__pycache__"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("server.pem", "anything"),
        ("aws-credentials", "anything"),
        ("db_apps.config", "[prod]"),
        (".netrc", "anything"),
        ("keys.sh", "export KEY=AKIAIOSFODNN7EXAMPLE"),
        ("keys.ini", "aws_secret_access_key = wJalrXUtnFEMIexample"),
        ("connect.sh", "mysql --password=hunter2 drs"),
        ("config.py", 'PASSWORD = "hunter2"'),
        ("url.txt", "postgresql://me:hunter2@db/works"),
        ("id.txt", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_what_looks_like_a_credential_is_named_without_being_shown(
    tmp_path: Path, scripts: Path, name: str, content: str
) -> None:
    (scripts / name).write_text(content + "\n")

    refused = build(tmp_path, "--sync-scripts", scripts)

    assert refused.returncode == 2
    assert f"bin/{name}: " in refused.stderr
    for secret in ("hunter2", "wJalrXUtnFEMI", "AKIAIOSFODNN7"):
        assert secret not in refused.stderr + refused.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_package_pinned_twice_is_named_with_both_versions(tmp_path: Path) -> None:
    (tmp_path / "site.txt").write_text("SQLAlchemy == 1.4.0\nBoto3[crt]==1.0 ; python_version > '3'\n")

    refused = build(tmp_path, "--requirements", tmp_path / "site.txt")

    assert refused.returncode == 2
    assert "sqlalchemy is" in refused.stderr
    assert "1.4.0 in site.txt" in refused.stderr
    assert "boto3 is" in refused.stderr


@pytest.mark.parametrize("option", ["--sync-scripts", "--requirements", "--audit-tool", "--config"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, option: str) -> None:
    refused = build(tmp_path, option, tmp_path / "nothing")

    assert refused.returncode == 2
    assert option in refused.stderr
