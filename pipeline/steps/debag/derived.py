"""Tag files for a work that came without a bag: what was unpacked, so that any later copy of it can be proved.

A valid set (RFC 8493, 2.2; version 0.97, as BDRC's tools write it) that vouches for the bytes as they were unpacked,
and says that nobody vouched for them before. The same zip gives the same files, to the byte: no date in them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.steps.debag.jobs import Job, WorkPlan
from pipeline.steps.debag.layout import PAYLOAD


@dataclass(frozen=True, slots=True)
class Derived:
    """A tag file that was made here: where it goes, relative to the staging folder, its bytes and their digests."""

    target: str
    content: bytes
    digests: tuple[str, ...]


def derived_tag_files(work: WorkPlan) -> list[Derived]:
    """The tag files of an unbagged work whose payload was unpacked; of a bagged one none, for it has its own."""
    if work.record.found.bagged or not work.kept:
        return []
    size = sum(job.member.size for job in work.payload)
    files = {
        "bagit.txt": "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": (
            f"BDRC-RID: {work.rid}\n"
            "Internal-Sender-Description: made of what was unpacked; the zip had no bag that vouched for it\n"
            f"Payload-Oxum: {size}.{len(work.payload)}\n"
        ),
        **{f"manifest-{name}.txt": _manifest(work.payload, at) for at, name in enumerate(work.algorithms)},
    }
    contents = {name: text.encode() for name, text in files.items()}
    for name in work.algorithms:
        lines = [f"{_digest(name, content)}  {path}\n" for path, content in sorted(contents.items()) if _is_first(path)]
        contents[f"tagmanifest-{name}.txt"] = "".join(lines).encode()
    return [
        Derived(f"{work.kept}/{path}", content, tuple(_digest(name, content) for name in work.algorithms))
        for path, content in contents.items()
    ]


def _is_first(path: str) -> bool:
    """Whether a tag manifest lists it: all but tag manifests (2.2.1)."""
    return not path.startswith("tagmanifest-")


def _manifest(payload: Iterable[Job], at: int) -> str:
    """A payload manifest: CR and LF in names are percent-encoded, as in BagIt 0.97 nothing else is."""
    lines = sorted((job.path, job.digests[at]) for job in payload)
    encoded = ((path.replace("\r", "%0D").replace("\n", "%0A"), digest) for path, digest in lines)
    return "".join(f"{digest}  {PAYLOAD}{path}\n" for path, digest in encoded)


def _digest(algorithm: str, content: bytes) -> str:
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
