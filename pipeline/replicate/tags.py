"""The tag files of a second copy: those that are kept with the work, wherever they are true of what is sent."""

import hashlib
import re
from collections.abc import Iterable, Mapping

ALGORITHMS = ("sha512", "sha384", "sha256", "sha1", "md5")
"""Those that manifests have, the strongest first."""
_OXUM = re.compile(rb"(?mi)^Payload-Oxum:[^\r\n]*")
_DECLARATION = b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n"
_MADE = re.compile(r"bagit\.txt|bag-info\.txt|(?:tag)?manifest-[^/]+\.txt")


def tag_files(
    work_rid: str, kept: Mapping[str, bytes], payload: Mapping[str, Mapping[str, str]], *, size_bytes: int
) -> dict[str, bytes]:
    """The tag files of a bag, in order (RFC 8493, 2.2); a kept one is taken byte for byte where it says the same.

    Args:
        work_rid: the work.
        kept: by name.
        payload: the digests of each file, by algorithm; sha512 is among them.
        size_bytes: of the payload.
    """
    made = {"bagit.txt": _DECLARATION}
    if b"UTF-8" in kept.get("bagit.txt", b"").upper():
        made["bagit.txt"] = kept["bagit.txt"]
    oxum = f"Payload-Oxum: {size_bytes}.{len(payload)}".encode()
    info, there = _OXUM.subn(oxum, kept.get("bag-info.txt", f"BDRC-RID: {work_rid}\n".encode()))
    made["bag-info.txt"] = info if there else info + oxum + b"\n"
    made |= {name: text for name, text in kept.items() if not _MADE.fullmatch(name)}
    for name in ALGORITHMS:
        if all(name in digests for digests in payload.values()):
            lines = (f"{digests[name]}  data/{path}" for path, digests in sorted(payload.items()))
            made[f"manifest-{name}.txt"] = _manifest(lines, kept.get(f"manifest-{name}.txt", b""))
    proofs = (f"{hashlib.sha512(text).hexdigest()}  {name}" for name, text in sorted(made.items()))
    made["tagmanifest-sha512.txt"] = _manifest(proofs, kept.get("tagmanifest-sha512.txt", b""))
    return made


def _manifest(lines: Iterable[str], kept: bytes) -> bytes:
    """A manifest's text; CR and LF in names are percent-encoded, as in BagIt 0.97 nothing else is."""
    made = [line.replace("\r", "%0D").replace("\n", "%0A").encode() for line in lines]
    return kept if sorted(kept.splitlines()) == sorted(made) else b"".join(line + b"\n" for line in made)
