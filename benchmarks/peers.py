"""The contenders: each unpacks a bag zip and verifies it, in a process of its own that `benchmarks.debag` measures.

Run as a file, `python benchmarks/peers.py NAME ZIP INTO`, so that it imports nothing but what that contender needs. The
exit status is 0 if the bag was found valid, 3 if the contender is not installed.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

MISSING = 3
CPUS = len(os.sched_getaffinity(0))
ROOT = Path(__file__).resolve().parent.parent
_BLOCK = 1 << 18


def ours(bag_zip: Path, into: Path, *, durable: bool = False) -> None:
    sys.path.insert(0, str(ROOT))
    debag = importlib.import_module("pipeline.debag")
    debag.unpack(bag_zip, into=into / "works", durable=durable)


def ours_durable(bag_zip: Path, into: Path) -> None:
    ours(bag_zip, into, durable=True)


def bdrc_bag(bag_zip: Path, into: Path, *, in_daemon: bool = True) -> None:
    _be_silent()
    debag = importlib.import_module("bag.bag_ops").debag
    own = into.with_name(f"{into.name}.zip")
    os.link(bag_zip, own)  # it deletes the zip
    if not debag(str(own), str(into), in_daemon):
        raise SystemExit(1)


def bdrc_bag_six_processes(bag_zip: Path, into: Path) -> None:
    bdrc_bag(bag_zip, into, in_daemon=False)


def bdrc_bag_then_sync(bag_zip: Path, into: Path) -> None:
    bdrc_bag(bag_zip, into)
    sync_file_system(into)


def zipfile_and_bagit(bag_zip: Path, into: Path) -> None:
    import zipfile

    _be_silent()
    bagit = importlib.import_module("bagit")
    with zipfile.ZipFile(bag_zip) as zip_file:
        zip_file.extractall(into)
    for folder in into.glob("*.bag"):
        bagit.Bag(str(folder)).validate(processes=CPUS)


def sha512sums(manifest: Path, *, folder: Path, at_once: int) -> None:
    """`sha512sum -c` of a manifest, cut by `split` into as many parts as `xargs -P` may work on at once."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(dir=manifest.parent) as parts:
        subprocess.run(["split", f"--number=l/{at_once}", manifest, f"{parts}/"], check=True)
        listed = "\n".join(os.path.join(parts, name) for name in os.listdir(parts))
        command = ["xargs", "-P", str(at_once), "-n", "1", "sha512sum", "--check", "--quiet"]
        subprocess.run(command, input=listed, text=True, cwd=folder, check=True)


def bdbag(bag_zip: Path, into: Path) -> None:
    _be_silent()
    api = importlib.import_module("bdbag.bdbag_api")
    folder = api.extract_bag(str(bag_zip), output_path=str(into))
    api.validate_bag(folder, fast=False)


def limit_digests(bag_zip: Path, _into: Path) -> None:
    """SHA-512 of as many bytes as the payload has, from memory, in a thread a CPU: nothing that verifies is faster."""
    import hashlib
    import threading
    import zipfile

    with zipfile.ZipFile(bag_zip) as zip_file:
        left = sum(member.file_size for member in zip_file.infolist())
    buffer = memoryview(os.urandom(_BLOCK))

    def work(blocks: int) -> None:
        digest = hashlib.sha512()
        for _ in range(blocks):
            digest.update(buffer)

    threads = [threading.Thread(target=work, args=(left // CPUS // _BLOCK,)) for _ in range(CPUS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def prepare_limit(bag_zip: Path) -> None:
    """Compile `limit.c` beside a zip, and write down what it has to do: nothing of that is measured."""
    import zipfile

    with zipfile.ZipFile(bag_zip) as zip_file, bag_zip.open("rb") as raw:
        members = [member for member in zip_file.infolist() if not member.is_dir()]
        if any(member.compress_type for member in members):
            return
        lines = []
        for member in members:
            raw.seek(member.header_offset + 26)
            head = raw.read(4)
            offset = member.header_offset + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little")
            lines.append(f"{offset} {member.file_size} {member.filename}\n")
    compile_limit(bag_zip, lines)


def compile_limit(source: Path, lines: Iterable[str]) -> None:
    """Compile `limit.c` beside what it is to read, with what it is told of it; without a compiler, nothing."""
    import shutil
    import subprocess

    source.with_suffix(".parts").write_text("".join(lines))
    if shutil.which("cc") is not None:
        command = ["cc", "-O2", "-funroll-loops", "-pthread", str(ROOT / "benchmarks" / "limit.c")]
        subprocess.run([*command, "-o", str(source.with_suffix(".limit"))], check=True)


def limit_c(source: Path, into: Path, *, threads: int = CPUS) -> None:
    """The same reading, hashing and writing, durable, by a program in C that judges nothing: see `limit.c`."""
    program, parts = source.with_suffix(".limit"), source.with_suffix(".parts")
    if not program.exists():
        raise SystemExit(MISSING)
    for folder in sorted({os.path.dirname(line.split(" ", 2)[2]) for line in parts.read_text().splitlines()}):
        os.makedirs(into / folder, exist_ok=True)
    os.dup2(os.open(parts, os.O_RDONLY), 0)
    os.execv(program, [str(program), str(source), str(into), str(threads), "1"])


def _be_silent() -> None:
    import logging

    logging.disable(logging.WARNING)


def sync_file_system(folder: Path) -> None:
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "ours, no sync": ours,
    "ours, durable": ours_durable,
    "bdrc-bag": bdrc_bag,
    "bdrc-bag, 6 processes": bdrc_bag_six_processes,
    "bdrc-bag, then sync": bdrc_bag_then_sync,
    "zipfile + bagit": zipfile_and_bagit,
    "bdbag": bdbag,
    "limit: digests alone": limit_digests,
    "limit: all of it in C, durable": limit_c,
}
"""By the name in the table. Ours keep the zip and show nothing of a bad bag; bdrc-bag removes the zip."""


def main() -> None:
    name, bag_zip, into = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    try:
        CONTENDERS[name](bag_zip, into)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        raise SystemExit(MISSING) from error


if __name__ == "__main__":
    main()
