"""Sample works and bags, shaped as BDRC makes them."""

import os
import random
import struct
import tempfile
from pathlib import Path

from pipeline.operations import bag

_IMAGES_A_GROUP = 8


def sample_rid(number: int) -> str:
    """The RID of the n-th sample work; their last two digits spread them over the archive's share points."""
    return f"W{number}DEMO{number * 27 % 100:02d}"


def make_sample_bag(folder: Path, number: int, *, size_bytes: int, corrupt: bool = False) -> Path:
    """The bag zip of the n-th sample work, about `size_bytes` large; made once, found again after.

    Args:
        folder: where the zip goes.
        number: chooses the RID and the bytes, which are the same each time.
        size_bytes: of the payload.
        corrupt: flip one bit of one image after the bag was made.
    """
    work_rid = sample_rid(number)
    target = folder / f"{work_rid}.bag.zip"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as temporary:
        work_dir = Path(temporary) / work_rid
        _write_work(work_dir, number, size_bytes)
        made = Path(temporary) / "made"
        bag.make([work_dir], into=made)
        if corrupt:
            _flip_one_bit(made / target.name, f"{work_rid}.bag/data/images/{work_rid}-I1/I10003.jpg")
        os.replace(made / target.name, target)
    return target


def _write_work(work_dir: Path, number: int, size_bytes: int) -> None:
    """Two image groups, each with web images and archive masters, as scanned works have them."""
    dice = random.Random(number)  # noqa: S311  # sample images, no secrets
    groups = [f"{work_dir.name}-I{group}" for group in (1, 2)]
    files = 2 * len(groups) * _IMAGES_A_GROUP
    for group_number, group in enumerate(groups, 1):
        for kind, suffix in (("images", "jpg"), ("archive", "tif")):
            folder = work_dir / kind / group
            folder.mkdir(parents=True)
            for image in range(1, _IMAGES_A_GROUP + 1):
                path = folder / f"I{group_number}{image:04d}.{suffix}"
                path.write_bytes(dice.randbytes(max(1, size_bytes // files)))
                os.utime(path, (1_712_361_600 + image, 1_712_361_600 + image))


def _flip_one_bit(bag_zip: Path, member: str) -> None:
    """Damage one payload byte as a bad disk would: the zip's own headers stay as they are."""
    import zipfile  # noqa: PLC0415  # only the one corrupt sample needs it

    with zipfile.ZipFile(bag_zip) as zip_file:
        info = zip_file.getinfo(member)
    with bag_zip.open("r+b") as file:
        file.seek(info.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
        place = info.header_offset + 30 + name_bytes + extra_bytes + info.file_size // 2
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
