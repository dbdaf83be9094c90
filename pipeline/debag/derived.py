"""Tag files for a work that has none of its own, so that any later copy of it can be proved.

A valid set (RFC 8493, 2.2; version 0.97, as BDRC's tools write it) of the bytes as they were unpacked. For a work that
came without a bag it says that nobody vouched for them before; for one that shared its bag with others it holds what
that bag's manifests say of it. The same zip gives the same files, to the byte: no date in them.
"""

import hashlib

from pipeline.debag.jobs import WorkPlan
from pipeline.debag.layout import PAYLOAD


def derived_tag_files(work: WorkPlan) -> list[tuple[str, bytes | bytearray, tuple[str, ...]]]:
    """The tag files of a work whose payload was unpacked; none for one that has a bag of its own, and so its own.

    Returns:
        Of each where it goes, relative to the staging folder, its bytes and their digests.
    """
    found = work.found
    if (found.bagged and not found.shared) or not work.kept:
        return []
    said = "Internal-Sender-Description: made of what was unpacked; the zip had no bag that vouched for it\n"
    if found.shared:
        said = (
            f"Internal-Sender-Description: made of its bag's manifests; the bag's other files are in {found.shared}\n"
        )
    size = sum(job.member.size for job in work.payload)
    contents: dict[str, bytes | bytearray] = {
        "bagit.txt": b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": f"BDRC-RID: {work.rid}\n{said}Payload-Oxum: {size}.{len(work.payload)}\n".encode(),
        **{f"manifest-{name}.txt": _manifest(work, at) for at, name in enumerate(work.algorithms)},
    }
    for name in work.algorithms:
        lines = [f"{_digest(name, content)}  {path}\n" for path, content in sorted(contents.items()) if _is_first(path)]
        contents[f"tagmanifest-{name}.txt"] = "".join(lines).encode()
    return [
        (f"{work.kept}/{path}", content, tuple(_digest(name, content) for name in work.algorithms))
        for path, content in contents.items()
    ]


def _is_first(path: str) -> bool:
    """Whether a tag manifest lists it: all but tag manifests (2.2.1)."""
    return not path.startswith("tagmanifest-")


def _manifest(work: WorkPlan, at: int) -> bytearray:
    """A payload manifest: CR and LF in names are percent-encoded, as in BagIt 0.97 nothing else is."""
    text = bytearray()  # grows in place: as a list of lines it would take three times as much memory
    for job in sorted(work.payload, key=lambda job: job.target):
        path = job.target[len(work.rid) + 1 :].replace("\r", "%0D").replace("\n", "%0A")
        text += f"{job.digests[at]}  {PAYLOAD}{path}\n".encode()
    return text


def _digest(algorithm: str, content: bytes | bytearray) -> str:
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
