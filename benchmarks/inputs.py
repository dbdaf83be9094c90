"""The bag zips that the benchmarks unpack, as BDRC's tool makes them: sha512, folder entries, `W1.bag/`."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Input:
    """A zip to make.

    Attributes:
        title: what it stands for.
        files: how many.
        size_bytes: of each.
        deflated: half as big in the zip.
    """

    title: str
    files: int
    size_bytes: int
    deflated: bool = False

    @property
    def bytes(self) -> int:
        """Of all files."""
        return self.files * self.size_bytes


FULL = {
    "images": Input("2,000 images of 600 KB", 2_000, 600_000),
    "large": Input("4 files of 300 MB", 4, 300_000_000),
    "deflated": Input("600 files of 600 KB, deflated", 600, 600_000, deflated=True),
    "small": Input("20,000 files of 20 KB", 20_000, 20_000),
}
QUICK = {
    "images": Input("200 images of 600 KB", 200, 600_000),
    "large": Input("4 files of 30 MB", 4, 30_000_000),
    "deflated": Input("100 files of 600 KB, deflated", 100, 600_000, deflated=True),
    "small": Input("2,000 files of 20 KB", 2_000, 20_000),
}


def _content(wanted: Input) -> Iterator[bytes]:
    left = wanted.size_bytes
    while left > 0:
        size = min(left, _BLOCK)
        yield os.urandom(size // 2 + 1).hex().encode()[:size] if wanted.deflated else os.urandom(size)
        left -= size


def make(wanted: Input, bag_zip: Path) -> Path:
    """Write the zip; about a second a gigabyte, more if deflated."""
    method = zipfile.ZIP_DEFLATED if wanted.deflated else zipfile.ZIP_STORED
    digests = {}
    with zipfile.ZipFile(bag_zip, "w", method, compresslevel=1) as zip_file:
        for folder in ("W1.bag", "W1.bag/data", *(f"W1.bag/data/{i}" for i in range(-(-wanted.files // 500)))):
            zip_file.mkdir(folder)
        for number in range(wanted.files):
            path, digest = f"data/{number // 500}/{number:06}.jpg", hashlib.sha512()
            with zip_file.open(f"W1.bag/{path}", "w") as member:
                for block in _content(wanted):
                    digest.update(block)
                    member.write(block)
            digests[path] = digest.hexdigest()
        tags = {
            "bagit.txt": "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": f"BDRC-RID: W1\nPayload-Oxum: {wanted.bytes}.{wanted.files}\n",
            "manifest-sha512.txt": "".join(f"{digest}  {path}\n" for path, digest in digests.items()),
        }
        lines = [f"{hashlib.sha512(text.encode()).hexdigest()}  {path}\n" for path, text in tags.items()]
        for path, text in {**tags, "tagmanifest-sha512.txt": "".join(lines)}.items():
            zip_file.writestr(f"W1.bag/{path}", text)
    return bag_zip
