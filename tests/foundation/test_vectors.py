"""SHA-512 in vector lanes says what hashlib says, by each instruction set of this machine; without, hashlib does it."""

import ctypes
import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.foundation import vectors
from tests.world.bags import make_bag_zip

ROOT = Path(__file__).resolve().parents[2]
KINDS = 5
# FIPS 180-4's example messages and NIST's byte vectors: https://csrc.nist.gov/projects/cryptographic-algorithm-validation-program
NIST = {
    b"": "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    b"abc": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    b"".join(b"abcdefghijklmnopqrstu"[at : at + 8] for at in range(14)): (
        "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
        "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"
    ),
    b"a" * 1_000_000: "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
    "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
}
SANITIZED = """
import sys
from pathlib import Path
from tests.foundation import test_vectors
for kind in range(test_vectors.KINDS):
    lanes = test_vectors.found(Path(sys.argv[1]), kind)
    if lanes is not None:
        test_vectors.see_all_lengths(lanes)
        test_vectors.see_copies(lanes, Path(sys.argv[2], str(kind)))
        test_vectors.see_copies_made_ahead(lanes, Path(sys.argv[2], f"{kind}-ahead"))
        test_vectors.see_copies_of_files(lanes, Path(sys.argv[2], f"{kind}-files"))
print("seen")
"""


def compile_library(target: Path, *flags: str) -> Path:
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("there is no C compiler")
    spec = importlib.util.spec_from_file_location("backend", ROOT / "native" / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    backend.compile_library(target, "-Werror", *flags)
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library in a package as it is installed."""
    folder = tmp_path_factory.mktemp("built") / vectors.PACKAGE
    folder.mkdir()
    (folder / "__init__.py").touch()
    return compile_library(folder / vectors.LIBRARY)


def found(library: Path, kind: int) -> vectors.Lanes | None:
    lanes = vectors.found_in(library, kind=kind)
    if isinstance(lanes, str):
        assert lanes.startswith("missing")
        return None
    return lanes


@pytest.fixture(params=range(KINDS))
def lanes(library: Path, request: pytest.FixtureRequest) -> vectors.Lanes:
    lanes = found(library, request.param)
    if lanes is None:
        pytest.skip("this machine has not got that instruction set")
    return lanes


def seat_of(lanes: vectors.Lanes) -> vectors.Seat:
    return lanes.seat(vectors.Halt(), ctypes.c_int64())


def sha512(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def see_all_lengths(lanes: vectors.Lanes) -> None:
    """Every length round the edges of blocks and of buffers, with files of all lengths side by side."""
    order = random.Random(lanes.name)
    content = order.randbytes(200_000)
    edges = (0, 65_536, 131_072)
    lengths = [max(0, edge + beside) for edge in edges for beside in range(-260, 261)]
    order.shuffle(lengths)
    messages = [content[start : start + length] for length in lengths for start in [order.randrange(1000)]]

    for many in (len(messages), 1, 2, 3, 5, 9):
        assert seat_of(lanes).hash(messages[:many]) == [sha512(one) for one in messages[:many]]


def pieces(content: bytes, order: random.Random) -> Iterator[vectors.ToHash]:
    """Parts of a file, of very different lengths, with gaps."""
    at = 0
    while at < len(content):
        size = min(len(content) - at, order.choice([0, order.randrange(300), order.randrange(3 * 65_536)]))
        yield vectors.ToHash(f"f/{at}-{size}", size, at, time_ns=order.randrange(-(10**18), 10**18))
        at += size + order.randrange(1, 9)


def see_copies(lanes: vectors.Lanes, folder: Path) -> None:
    """Parts of a file are copied as they are, and what was copied is read back."""
    order = random.Random(lanes.name)
    content = order.randbytes(2_000_000)
    (folder / "f").mkdir(parents=True)
    (folder / "whole").write_bytes(content)
    wanted = list(pieces(content, order))
    source, into = os.open(folder / "whole", os.O_RDONLY), os.open(folder, os.O_RDONLY)
    done = ctypes.c_int64()
    seat = lanes.seat(vectors.Halt(), done)

    copied = seat.copy(source, wanted, into=into, write_back=True)
    read, _ = seat.read(into, wanted, drop_cache=True)

    for part, first, second in zip(wanted, copied, read, strict=True):
        bytes_of_it = content[part.offset : part.offset + part.size]
        assert (folder / part.name).read_bytes() == bytes_of_it
        assert (folder / part.name).stat().st_mtime_ns == part.time_ns
        assert first == second == vectors.Hashed(part.size, sha512(bytes_of_it), None)
    assert done.value == 2 * sum(part.size for part in wanted)
    os.close(source)
    os.close(into)


def see_copies_made_ahead(lanes: vectors.Lanes, folder: Path) -> None:
    """Few files, read and written by another thread than hashes them, come out as with one thread."""
    order = random.Random(lanes.name)
    content = order.randbytes(3_000_000)
    folder.mkdir()
    (folder / "whole").write_bytes(content)
    (folder / "there").write_bytes(b"mine")
    source, into = os.open(folder / "whole", os.O_RDONLY), os.open(folder, os.O_RDONLY)
    piece = 256 * 1024
    lengths = [0, 1, 111, 128, piece - 1, piece, piece + 1, 2 * piece, 3 * piece - 17, 2_000_000]

    for number in range(60):
        sizes = order.sample(lengths, order.randrange(1, 5))
        files = [vectors.ToHash(f"{number}-{size}", size, order.randrange(900_000), number) for size in sizes]
        files[0] = replace(files[0], name="there") if number % 4 == 1 else files[0]
        copied = seat_of(lanes).copy(source, files, into=into, write_back=number % 2 == 0, ahead=True)
        for file, one in zip(files, copied, strict=True):
            if file.name == "there":
                assert (type(one.error), one.digest) == (FileExistsError, "")
                continue
            part = content[file.offset : file.offset + file.size]
            assert one == vectors.Hashed(file.size, sha512(part), None)
            assert (folder / file.name).read_bytes() == part
            assert (folder / file.name).stat().st_mtime_ns == number
    past = [vectors.ToHash(f"past-{size}", size, 2_000_000) for size in (999_000, 1_500_000, 900_000)]
    copied = seat_of(lanes).copy(source, past, into=into, write_back=True, ahead=True)
    assert (copied[1].digest, str(copied[1].error)) == ("", "[Errno 5] Input/output error")
    (halted := vectors.Halt()).set()
    seat = lanes.seat(halted, ctypes.c_int64())
    assert [one.digest for one in seat.copy(source, files, into=-1, write_back=True, ahead=True)] == [""] * len(files)
    assert (folder / "there").read_bytes() == b"mine"
    os.close(source)
    os.close(into)


def see_copies_of_files(lanes: vectors.Lanes, folder: Path) -> None:
    """Files of all sizes come to another folder with their modes and times."""
    order = random.Random(lanes.name)
    sizes = [0, 1, 65_535, 65_536, 262_143, 262_144, 262_145, 17 << 20, *(order.randrange(600_000) for _ in range(20))]
    for name in ("from/f", "into/f"):
        (folder / name).mkdir(parents=True)
    for number, size in enumerate(sizes):
        file = folder / "from" / "f" / str(number)
        file.write_bytes(order.randbytes(size))
        os.utime(file, ns=(order.randrange(10**18), order.randrange(10**18)))
        file.chmod(order.choice([0o400, 0o640, 0o777]))
    source, into = os.open(folder / "from", os.O_RDONLY), os.open(folder / "into", os.O_RDONLY)

    failed = seat_of(lanes).copy_below(source, [f"f/{n}" for n in range(len(sizes))], into=into)

    assert failed is None
    for number in range(len(sizes)):
        first, second = (folder / name / "f" / str(number) for name in ("from", "into"))
        assert second.read_bytes() == first.read_bytes()
        assert (second.stat().st_mode, second.stat().st_mtime_ns) == (first.stat().st_mode, first.stat().st_mtime_ns)
    os.close(source)
    os.close(into)


def test_what_nist_says_is_what_the_lanes_say(lanes: vectors.Lanes) -> None:
    assert seat_of(lanes).hash(list(NIST) * 3) == list(NIST.values()) * 3


def test_every_length_round_the_edges_of_blocks_is_hashed_as_hashlib_does(lanes: vectors.Lanes) -> None:
    see_all_lengths(lanes)


def test_parts_of_a_file_are_copied_and_read_back_as_they_are(lanes: vectors.Lanes, tmp_path: Path) -> None:
    see_copies(lanes, tmp_path)


def test_a_few_files_are_read_and_written_ahead_of_the_lanes(lanes: vectors.Lanes, tmp_path: Path) -> None:
    see_copies_made_ahead(lanes, tmp_path / "ahead")


def test_files_are_copied_with_modes_and_times(lanes: vectors.Lanes, tmp_path: Path) -> None:
    see_copies_of_files(lanes, tmp_path)


@pytest.mark.parametrize("bad", ["link", "gone", "pipe", "there"])
def test_a_file_that_cannot_be_copied_is_named_and_those_behind_it_are_left(
    lanes: vectors.Lanes, tmp_path: Path, bad: str
) -> None:
    for name in ("from", "into"):
        (tmp_path / name).mkdir()
    for name in ("first", "last", "there"):
        (tmp_path / "from" / name).write_bytes(b"abc")
    (tmp_path / "from" / "link").symlink_to("first")
    os.mkfifo(tmp_path / "from" / "pipe")
    (tmp_path / "into" / "there").write_bytes(b"mine")
    source, into = os.open(tmp_path / "from", os.O_RDONLY), os.open(tmp_path / "into", os.O_RDONLY)

    failed = seat_of(lanes).copy_below(source, ["first", bad, "last"], into=into)

    os.close(source)
    os.close(into)
    assert isinstance(failed, OSError)
    assert failed.filename == bad
    assert {file.name: file.read_bytes() for file in (tmp_path / "into").iterdir()} == {
        "first": b"abc", "there": b"mine"
    }  # fmt: skip


def test_no_address_is_touched_that_is_not_the_library_s(tmp_path: Path) -> None:
    library = compile_library(tmp_path / "checked.so", "-fsanitize=address,undefined", "-fno-sanitize-recover", "-g")
    runtime = subprocess.check_output(["cc", "-print-file-name=libasan.so"], text=True).strip()
    if not os.path.isabs(runtime):
        pytest.skip("the compiler has no address sanitizer")
    environment = {**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}

    run = subprocess.run(
        [sys.executable, "-c", SANITIZED, library, tmp_path],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (run.stdout, run.returncode) == ("seen\n", 0), run.stderr


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_hashed(lanes: vectors.Lanes, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"abc")
    (tmp_path / "longer").write_bytes(b"abcd" * 40_000)
    (tmp_path / "link").symlink_to("plain")
    os.mkfifo(tmp_path / "pipe")
    folder = os.open(tmp_path, os.O_RDONLY)
    names = ("link", "plain", "gone", "pipe", ".", "longer")

    read, dropped = seat_of(lanes).read(folder, [vectors.ToHash(name, 3) for name in names], drop_cache=False)

    os.close(folder)
    assert dropped
    assert [type(one.error) for one in read] == [
        OSError, type(None), FileNotFoundError, OSError, OSError, type(None)
    ]  # fmt: skip
    assert read[1] == vectors.Hashed(3, NIST[b"abc"], None)
    assert read[5] == vectors.Hashed(160_000, sha512(b"abcd" * 40_000), None)


def test_what_is_there_is_not_written_over_and_no_link_is_followed(lanes: vectors.Lanes, tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(bytes(range(200)))
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("elsewhere")
    source, into = os.open(tmp_path / "whole", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    files = [vectors.ToHash(name, 100, 50) for name in ("there", "link", "new")]

    copied = seat_of(lanes).copy(source, files, into=into, write_back=False)
    past_the_end = seat_of(lanes).copy(source, [vectors.ToHash("short", 100, 150)], into=into, write_back=False)

    os.close(source)
    os.close(into)
    assert [type(one.error) for one in copied] == [FileExistsError, FileExistsError, type(None)]
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "new").read_bytes() == bytes(range(50, 150))
    assert (past_the_end[0].digest, str(past_the_end[0].error)) == ("", "[Errno 5] Input/output error")


def test_a_call_that_is_halted_hashes_nothing_more(lanes: vectors.Lanes) -> None:
    halt = vectors.Halt()
    halt.set()

    seat = lanes.seat(halt, ctypes.c_int64())

    assert seat.hash([b"abc"] * 9) == [""] * 9
    assert seat.copy_below(-1, ["nothing"], into=-1) is None


def test_a_library_that_does_not_agree_with_hashlib_is_not_used(tmp_path: Path) -> None:
    compile_library(tmp_path / "right.so")
    wrong = tmp_path / "wrong.c"
    wrong.write_text(
        'int sha512_best(void) { return 0; }\nconst char *sha512_kind(int k) { return k ? 0 : "fast"; }\n'
        "int sha512_lanes(int k) { return 8 + k; }\nint sha512_fewest(int k) { return 2 + k; }\n"
        "void sha512_files(void) {}\n#ifndef OLD\nvoid copy_files(void) {}\n#endif\n"
    )
    for name, *flags in (("wrong.so",), ("old.so", "-DOLD")):
        subprocess.run(["cc", "-shared", "-fPIC", *flags, wrong, "-o", tmp_path / name], check=True)
    (tmp_path / "none.so").write_text("no library\n")

    assert vectors.found_in(tmp_path / "wrong.so") == "not used: here they do not agree with hashlib"
    for unfit in ("none.so", "old.so", "gone.so"):
        assert str(vectors.found_in(tmp_path / unfit)).startswith("not to be loaded: ")


DEBAG = """
import sys
from pathlib import Path
from pipeline import debag
from pipeline.foundation import vectors
from pipeline.foundation.errors import InvalidBag
print(getattr(vectors.installed(), "name", vectors.installed()))
try:
    debag.unpack(Path(sys.argv[1]), into=Path(sys.argv[2]))
except InvalidBag as error:
    print([fault.as_dict() for fault in error.faults])
"""


def debagged(bag_zip: Path, into: Path, library: Path, *, off: bool) -> tuple[str, str, dict[str, bytes]]:
    """Which lanes were used, what was said, and what is there after debag in a process of its own."""
    environment = {
        **os.environ, "PYTHONPATH": str(library.parents[1]), "PIPELINE_TEST_VECTORS": "off" if off else "",
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", DEBAG, bag_zip, into],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    used, _, said = run.stdout.partition("\n")
    there = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    if marker := there.pop("debag.json", None):
        facts = json.loads(marker)
        facts.pop("seconds", None)
        said += json.dumps(facts)
    return used, said, there


@pytest.mark.parametrize("corrupt", ["", "images/W1-I1/7.jpg"])
def test_debag_says_and_leaves_the_same_with_and_without_lanes(library: Path, tmp_path: Path, corrupt: str) -> None:
    order = random.Random(0)
    files = {f"images/W1-I1/{number}.jpg": order.randbytes(number**4 * 70 % 400_000) for number in range(30)}
    bag_zip = make_bag_zip(tmp_path, "W1", files=files, corrupt=corrupt)
    into = tmp_path / "out"

    used, *with_lanes = debagged(bag_zip, into, library, off=False)
    shutil.rmtree(into, ignore_errors=True)
    off, *without = debagged(bag_zip, into, library, off=True)

    assert off == "switched off"
    assert used in {"AVX-512", "AVX2"} or used.startswith("missing")
    assert with_lanes == without
    assert bool(with_lanes[1]) is not bool(corrupt)
    assert ("digest-differs" in str(with_lanes[0])) is bool(corrupt)


def test_without_a_compiler_one_line_says_so_and_nothing_is_installed(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)

    run = subprocess.run(
        ["make", "--no-print-directory", f"VENV={venv}", "--old-file", f"{venv}/.made", f"{venv}/.native"],
        cwd=ROOT, env={**os.environ, "CC": "no-such-compiler"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == (
        f"no vector lanes for SHA-512: native/ could not be compiled ({venv}/native.log); "
        "on Debian by gcc and libc6-dev\n"
    )
    assert not (venv / ".native").exists()
