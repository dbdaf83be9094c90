"""Which file of the zip does a line of a manifest mean? Equal names first; else what can only be meant.

Leniency is safe here: whatever a line is matched with, the digest still has to match. So a name that differs only in
its Unicode form, its percent-encoding or stray blanks is resolved (6.1.1.2) where just one file can be meant, and said.
"""

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.manifests import Manifest, repeated
from pipeline.debag.tag_files import unescape
from pipeline.debag.zip_directory import Member
from pipeline.debag.zip_members import nfc

_HAS_FORMS = re.compile(r"[^\x20-\x7e]|%|//|/\.|\./|\A[/ ]|[/ ]\Z")
"""What has none of these is the same in all forms."""


def match_names(manifest: Manifest, files: Mapping[str, Member], version: tuple[int, int], say: Findings) -> None:
    """Re-key the manifest's entries by the names of the zip's files, and name those that are missing."""
    unmatched = sorted(manifest.entries.keys() - files.keys())
    if not unmatched:
        return
    candidates = _Candidates(files, say)
    for path in say.each(unmatched):
        name = candidates.of(manifest.raw.get(path, path), path)
        if name is None:
            manifest.missing.append(path)
            continue
        digest = manifest.entries.pop(path)
        if name in manifest.entries:
            repeated(manifest, name, digest, version, say)
        manifest.entries.setdefault(name, digest)
        if name not in {path, unescape(path)}:
            other = "has another Unicode form of the name" if nfc(name) == path else f"spells it {path!r}"
            say.warn(FaultKind.NAME_RESOLVED, f"{manifest.file_name} {other}", path=name)


class _Candidates:
    """The zip's names under every form in which a manifest may write them."""

    def __init__(self, files: Mapping[str, Member], say: Findings) -> None:
        self._plain = files
        forms: tuple[Callable[[str], str], ...] = (nfc, lambda name: nfc(unescape(name)), lambda name: nfc(_tidy(name)))
        odd = [name for name in say.each(files) if _HAS_FORMS.search(name)]
        self._indices = [_index(say.each(odd), form) for form in forms]

    def of(self, written: str, path: str) -> str | None:
        """The one file that can be meant, or None if there is none, or more than one."""
        has_forms = written != path or _HAS_FORMS.search(path)
        for spelling in _spellings(written, path) if has_forms else (path,):
            if spelling in self._plain:
                return spelling
            for index in self._indices:
                if spelling in index:
                    return index[spelling]
        return None


def _index(names: Iterable[str], form: Callable[[str], str]) -> dict[str, str | None]:
    """Names by another form of theirs; None where more than one has it. A name that has no other form is left out."""
    index: dict[str, str | None] = {}
    for name in names:
        other = form(name)
        if other != name:
            index[other] = None if other in index else name
    return index


def _tidy(path: str) -> str:
    """Without stray blanks, `.` and empty parts."""
    return posixpath.normpath(path.strip()) if path.strip() else path


def _spellings(written: str, path: str) -> Iterator[str]:
    """What a path of a manifest may stand for, the likeliest first."""
    for form in (path, written, unescape(path)):
        yield form
        yield nfc(form)
    yield nfc(_tidy(unescape(path)))
    yield nfc(_tidy(path))


def settle_cp437(files: dict[str, Member], manifests: Collection[Manifest], say: Findings, *, folder: str) -> None:
    """Give members whose names are UTF-8, though the zip does not say so, the name that a manifest has for them."""
    others = [path for path, member in files.items() if member.other_name and member.other_name.startswith(folder)]
    if not others:
        return
    listed = (path for manifest in manifests for path in say.each(manifest.entries))
    wanted = {form for path in listed if not path.isascii() or "%" in path for form in (nfc(path), nfc(unescape(path)))}

    def is_listed(form: str) -> bool:
        return form in wanted or any(form in manifest.entries for manifest in manifests)

    for path in say.each(others):
        utf8 = files[path].other_name[len(folder) :]
        if not is_listed(nfc(path)) and is_listed(nfc(utf8)) and utf8 not in files:
            member = files.pop(path)
            member.name = folder + utf8
            files[utf8] = member
            say.warn(FaultKind.NAME_CP437, "is UTF-8, which the zip does not say", path=utf8)
