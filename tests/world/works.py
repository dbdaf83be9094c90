"""Builders of debagged works in staging, of archives, of sites, and of sync scripts with the tools they find."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.foundation import fixity
from pipeline.foundation.fixity import FileFixity, Fixity
from pipeline.sync import Synced, SyncSettings, archive
from tests.world.bags import SMALL_WORK

BUNDLED_SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "syncOneWork.sh"

COREUTILS = ("b2sum", "cat", "cp", "cut", "mkdir", "mv", "rm", "stat", "sync")
"""All that the bundled script needs, besides bash."""

AWKWARD_NAMES = (
    'it\'s "quoted".jpg',
    "$(touch pwned).jpg",
    "`touch pwned`",
    "new\nline.jpg",
    "-rf",
    "--delete",
    "# no comment",
    "; rm -rf ~",
    "*",
    "@",
    "[x]] ]",
    "back\\slash",
    "%s%n",
    " blanks around ",
    "བོད་ཡིག.jpg",
    "中文.jpg",
    "caf\u00e9.jpg",  # NFC
    "cafe\u0301.jpg",  # NFD: another file
    "n" * 255,
    "-folder $(x)/'y'/\n/--z",
    ".hidden",
    "empty",
)
AWKWARD_WORK = {name: b"" if name == "empty" else name.encode() * 50 for name in AWKWARD_NAMES}


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    """`folder` with these files, dated as on a scanner of long ago."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by relative name, but the proof that the pipeline keeps with archived works."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.match("*.bag/*.digests.json")
    }


def fixity_of(files: Mapping[str, bytes], *, rid: str = "W1", algorithms: Sequence[str] = ("sha512",)) -> Fixity:
    """The verified digests of these files."""
    return Fixity(
        work_rid=rid,
        verified="manifest",
        files={
            path: FileFixity(len(content), {name: hashlib.new(name, content).hexdigest() for name in algorithms})
            for path, content in files.items()
        },
    )


ONE_COPY = "builtin, unpacked in the archive"
COPIERS = ("script", "builtin", ONE_COPY)


class Home:
    """A staging folder, an archive, and a site; works are staged and archived by one call each.

    With `ONE_COPY` for its copier the works are staged in the archive, as debag does it to save a copy.
    """

    def __init__(self, folder: Path, *, copier: str = "script") -> None:
        self.folder = folder
        self.copier = copier.partition(",")[0]
        self.root = folder / "archive"
        self.logs = folder / "logs"
        self.root.mkdir()
        self.staging = self.root / "Archive0/00/.W1-0.staging/debag" if copier == ONE_COPY else folder / "staging"
        self.staging.mkdir(parents=True)

    def shelf(self) -> list[str]:
        """What lies where works with the digits 00 belong, but the folder in which we stage them."""
        return sorted({path.name for path in (self.root / "Archive0/00").iterdir()} - {self.staging.parent.name})

    def stage(
        self, rid: str = "W1", *, files: Mapping[str, bytes] = SMALL_WORK, algorithms: Sequence[str] = ("sha512",)
    ) -> Path:
        """The work as debag leaves it, digests beside it; returns the work's folder."""
        digests = fixity.dumps(fixity_of(files, rid=rid, algorithms=algorithms))
        (self.staging / fixity.digests_name(rid)).write_bytes(digests)
        return put(self.staging / rid, files)

    def site(self, *, script: str = "", **values: Any) -> SyncSettings:
        """The site; `script` is the text of its own script. If empty: the bundled one, or the built-in copier."""
        path = BUNDLED_SCRIPT
        values = {"copier": "script" if script else self.copier, **values}
        if script:
            path = self.folder / "own-sync.sh"
            path.write_text(script)
        return SyncSettings(**{"archive_root": self.root, "script": path, "logs": self.logs, **values})

    def archive(self, rid: str = "W1", *, site: SyncSettings | None = None, **values: Any) -> Synced:
        """Bring a staged work home."""
        return archive(
            self.staging / rid,
            self.staging / fixity.digests_name(rid),
            work_rid=rid,
            site=site or self.site(),
            **values,
        )


class Script:
    """The bundled script with a PATH of its own, an archive for `-a`, and works beside it."""

    def __init__(self, folder: Path, tools: tuple[str, ...]) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in tools:
            (self.tools / name).symlink_to(str(shutil.which(name)))
        (folder / "mnt").mkdir()
        self.archive = folder / "mnt" / "Archive"
        self.copy = folder / "mnt" / "Archive0" / "00" / "W1"

    def work(self, rid: str = "W1", files: Mapping[str, bytes] = SMALL_WORK) -> Path:
        return put(self.folder / "works" / rid, files)

    def tool(self, name: str, text: str) -> None:
        """A program on the script's PATH."""
        (self.tools / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (self.tools / name).chmod(0o755)

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(shutil.which("bash")), BUNDLED_SCRIPT, *arguments],
            env={"PATH": str(self.tools), **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str | Path, status: int = 0, **environment: str) -> tuple[str, str]:
        """Run it; returns stdout and stderr."""
        with self.start(*arguments, **environment) as process:
            said, complained = process.communicate(timeout=60)
        assert process.returncode == status, said + complained
        return said, complained
