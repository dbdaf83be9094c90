"""Builders of sample bags, with defaults for everything."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SMALL_WORK: Mapping[str, bytes] = {
    "images/I1/I10001.jpg": b"first image" * 100,
    "images/I1/I10002.jpg": b"second image" * 90,
    "archive/I1/I10001.tif": b"first master" * 300,
}


def bag_members(
    rid: str = "W1",
    *,
    files: Mapping[str, bytes] = SMALL_WORK,
    algorithms: Sequence[str] = ("sha512",),
    version: str = "0.97",
    bag_info: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """The members of a valid bag zip, by name, in the order in which BDRC's tool writes them."""
    payload = {f"data/{path}": content for path, content in files.items()}
    oxum = f"{sum(map(len, payload.values()))}.{len(payload)}"
    info = {"BDRC-RID": rid, "Payload-Oxum": oxum} if bag_info is None else dict(bag_info)
    tags = {
        "bagit.txt": f"BagIt-Version: {version}\nTag-File-Character-Encoding: UTF-8\n".encode(),
        "bag-info.txt": "".join(f"{label}: {value}\n" for label, value in info.items()).encode(),
    }
    for name in algorithms:
        tags[f"manifest-{name}.txt"] = manifest(payload, name)
    for name in algorithms:
        tags[f"tagmanifest-{name}.txt"] = manifest(
            {path: content for path, content in tags.items() if not path.startswith("tagmanifest-")}, name
        )
    return {f"{rid}.bag/{path}": content for path, content in {**tags, **payload}.items()}


def manifest(files: Mapping[str, bytes], algorithm: str) -> bytes:
    """A manifest of `files` as the bagit package writes it."""
    return "".join(
        f"{hashlib.new(algorithm, content).hexdigest()}  {path}\n" for path, content in files.items()
    ).encode()


def write_zip(path: Path, members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip of `members`, stored unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as zip_file:
        for name, content in members.items():
            zip_file.writestr(zipfile.ZipInfo(name, (2024, 4, 6, 12, 0, 0)), content, compression)
    return path


def make_bag_zip(
    folder: Path,
    rid: str = "W1",
    *,
    corrupt: str = "",
    files: Mapping[str, bytes] = SMALL_WORK,
    algorithms: Sequence[str] = ("sha512",),
) -> Path:
    """`{folder}/{rid}.bag.zip`, valid unless `corrupt` names a payload file in which one bit shall be flipped."""
    members = bag_members(rid, files=files, algorithms=algorithms)
    if corrupt:
        name = f"{rid}.bag/data/{corrupt}"
        content = bytearray(members[name])
        content[len(content) // 2] ^= 1
        members[name] = bytes(content)
    return write_zip(folder / f"{rid}.bag.zip", members)
