"""The contenders: each copies a work into an archive and verifies the copy, in a process of its own.

Run as a file, `python benchmarks/sync_peers.py NAME WORK INTO`; WORK has `manifest-sha512.txt` beside it. The exit
status is 0 if the copy was found good, 3 if the contender is not installed.
"""

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MISSING = 3
CPUS = len(os.sched_getaffinity(0))
_BLOCK = 1 << 18


def ours(work: Path, into: Path) -> None:
    """The whole sync step: staging looked through, copied, flushed, read back from the disk, published, proof kept."""
    sys.path.insert(0, str(ROOT))
    sync = importlib.import_module("pipeline.sync")
    site = sync.SyncSettings(into, Path("none"), into.with_name("logs"), copier=sync.BUILTIN)
    sync.archive(work, work.with_name("W1.digests.json"), work_rid="W1", site=site)


def ours_script(work: Path, into: Path) -> None:
    """The same step with the bundled sync script, which is what a site has that sets nothing."""
    sys.path.insert(0, str(ROOT))
    sync = importlib.import_module("pipeline.sync")
    site = sync.SyncSettings(into, ROOT / "bin" / "syncOneWork.sh", into.with_name(f"{into.name}-logs"))
    sync.archive(work, work.with_name("W1.digests.json"), work_rid="W1", site=site)


def rsync(work: Path, into: Path, *, durable: bool = False) -> None:
    """`rsync -a`, then `rsync -c`, which compares checksums of its own choice with staging's, read again."""
    _run("rsync", "-a", f"{work}/", f"{into}/W1/")
    if durable:
        _settled(into)
    differing = _run("rsync", "-anc", "--out-format=%n", f"{work}/", f"{into}/W1/")
    if differing:
        raise SystemExit(1)


def rsync_settled(work: Path, into: Path) -> None:
    rsync(work, into, durable=True)


def cp(work: Path, into: Path, *, durable: bool = False, at_once: int = 1) -> None:
    """`cp -a`, then `sha512sum -c` with the bag's manifest, in as many processes as it may use."""
    _run("cp", "-a", str(work), f"{into}/W1")
    if durable:
        _settled(into)
    sys.path.insert(0, str(ROOT))
    peers = importlib.import_module("benchmarks.peers")
    peers.sha512sums(work.with_name("manifest-sha512.txt"), folder=into / "W1", at_once=at_once)


def cp_settled(work: Path, into: Path) -> None:
    cp(work, into, durable=True)


def cp_settled_two(work: Path, into: Path) -> None:
    cp(work, into, durable=True, at_once=CPUS)


def limit_digests(work: Path, _into: Path) -> None:
    """SHA-512 of as many bytes, from memory, in a thread a CPU: nothing that compares with the manifest is faster."""
    left = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    buffer = memoryview(os.urandom(_BLOCK))

    def hash_share() -> None:
        digest = hashlib.sha512()
        for _ in range(left // CPUS // _BLOCK):
            digest.update(buffer)

    threads = [threading.Thread(target=hash_share) for _ in range(CPUS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def limit_c(work: Path, into: Path) -> None:
    """Copied, flushed, read back from the disk and hashed by a program in C, in as many threads as ours has."""
    sys.path.insert(0, str(ROOT))
    peers = importlib.import_module("benchmarks.peers")
    peers.limit_c(work, into, threads=CPUS + 2)


def _run(*command: str, folder: Path | None = None) -> bytes:
    if not shutil.which(command[0]):
        print(f"{command[0]} is not installed", file=sys.stderr)
        raise SystemExit(MISSING)
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout


def _settled(into: Path) -> None:
    """Everything on the disk, and out of the page cache: what our own step has done when it reads the copy back."""
    _run("sync", "-f", str(into))
    for below, _, names in os.walk(into):
        for name in names:
            descriptor = os.open(os.path.join(below, name), os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "ours, with the script": ours_script,
    "rsync -a, rsync -c": rsync,
    "cp -a, sha512sum -c": cp,
    "rsync -a, sync, rsync -c": rsync_settled,
    "cp -a, sync, sha512sum -c": cp_settled,
    "cp -a, sync, xargs -P sha512sum -c": cp_settled_two,
    "limit: digests alone": limit_digests,
    "limit: all of it in C": limit_c,
}
"""By the name in the table. With `sync`: on the disk and out of the cache before it is verified, as ours always is."""

IN_MEMORY = ("ours", "rsync -a, rsync -c", "cp -a, sha512sum -c", "limit: digests alone", "limit: all of it in C")
"""Those that differ where there is no disk: a sync does nothing there."""
ON_DISK = tuple(name for name in CONTENDERS if name not in {"rsync -a, rsync -c", "cp -a, sha512sum -c"})
"""Those that read back what they wrote, and not what is still in memory."""


def main() -> None:
    CONTENDERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
