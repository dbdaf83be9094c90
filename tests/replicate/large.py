"""What does not fit into an old zip's fields: a file over 5 GiB, 100,000 files. Minutes long: part of `make soak`."""

import hashlib
from pathlib import Path

from pipeline import debag, replicate
from pipeline.foundation.fixity import FileFixity, Fixity
from pipeline.replicate.bag_stream import write

HOLE = bytes(1 << 20)
LARGE_BYTES = (5 << 30) + 123
FILES = 100_000


class Sparse:
    """A file in which zeros take no room."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        """Take bytes."""
        if data == HOLE[: len(data)]:
            self._file.seek(len(data), 1)
        else:
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The end, which is no hole."""
        self._file.close()


def test_a_file_over_5_gib_and_100_000_files_come_home_from_their_copy(tmp_path: Path) -> None:
    work, files = tmp_path / "W1", {}
    for number in range(FILES):
        path, content = work / f"{number // 1000:03}" / f"{number:06}.txt", str(number).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files[str(path.relative_to(work))] = FileFixity(len(content), {"sha512": hashlib.sha512(content).hexdigest()})
    whole = hashlib.sha512()
    for at in range(0, LARGE_BYTES, len(HOLE)):
        whole.update(HOLE[: LARGE_BYTES - at])
    with (work / "large.tif").open("wb") as large:
        large.truncate(LARGE_BYTES)
    files["large.tif"] = FileFixity(LARGE_BYTES, {"sha512": whole.hexdigest()})

    sink = Sparse(tmp_path / "W1.bag.zip")
    write(replicate.content(work, Fixity("W1", "manifest", files)), sink)
    sink.close()
    (work / "large.tif").unlink()
    unpacked = debag.unpack(tmp_path / "W1.bag.zip", into=tmp_path / "out", work_rid="W1", durable=False)

    assert (unpacked.files, unpacked.bytes) == (FILES + 1, sum(file.size_bytes for file in files.values()))
    found = {path.relative_to(work): path.read_bytes() for path in work.rglob("*.txt")}
    again = tmp_path / "out" / "W1"
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("[0-9]*.txt")} == found
    (again / "large.tif").unlink()  # unpacked, it takes room
