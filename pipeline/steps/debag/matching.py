"""Which file of the zip does a line of a manifest mean? Equal names first; else what can only be meant.

Leniency is safe here: whatever a line is matched with, the digest still has to match. So a name that differs only in
its Unicode form, its percent-encoding or stray blanks is resolved (6.1.1.2) where just one file can be meant, and said.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping

from pipeline.steps.debag.faults import FaultKind, Findings
from pipeline.steps.debag.tag_files import Manifest, repeated, unescape
from pipeline.steps.debag.zip_directory import Member
from pipeline.steps.debag.zip_members import nfc


def match_names(
    manifest: Manifest, files: Mapping[str, Member], version: tuple[int, int], say: Findings, *, bag: str
) -> list[str]:
    """Re-key the manifest's entries by the names of the zip's files.

    Returns:
        Paths that the manifest lists and the zip does not have.
    """
    unmatched = sorted(manifest.entries.keys() - files.keys())
    if not unmatched:
        return []
    candidates = _Candidates(files)
    missing = []
    for path in unmatched:
        name = candidates.of(manifest.raw.get(path, path), path)
        if name is None:
            missing.append(path)
            continue
        digest = manifest.entries.pop(path)
        if name in manifest.entries:
            repeated(manifest, name, digest, version, say, bag)
        manifest.entries.setdefault(name, digest)
        if nfc(name) != path and unescape(path) != name:
            detail = f"{manifest.file_name} spells it {path!r}"
            say.warn(FaultKind.NAME_RESOLVED, bag=bag, path=name, detail=detail)
        elif name != path and unescape(path) != name:
            detail = f"{manifest.file_name} has another Unicode form of the name"
            say.warn(FaultKind.NAME_RESOLVED, bag=bag, path=name, detail=detail)
    return missing


class _Candidates:
    """The zip's names under every form in which a manifest may write them."""

    def __init__(self, files: Iterable[str]) -> None:
        self._plain = set(files)
        self._composed = _index(self._plain, nfc)
        self._decoded = _index(self._plain, lambda name: nfc(unescape(name)))
        self._stripped = _index(self._plain, lambda name: nfc(_tidy(name)))

    def of(self, written: str, path: str) -> str | None:
        """The one file that can be meant, or None if there is none, or more than one."""
        for spelling in _spellings(written, path):
            if spelling in self._plain:
                return spelling
            for index in (self._composed, self._decoded, self._stripped):
                names = index.get(spelling, ())
                if len(names) == 1:
                    return names[0]
                if names:
                    return None
        return None


def _index(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in names:
        index.setdefault(form(name), []).append(name)
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


def settle_cp437(files: dict[str, Member], listed: Iterable[str], say: Findings, *, bag: str, folder: str) -> None:
    """Give members whose names are UTF-8, though the zip does not say so, the name that a manifest has for them."""
    others = {
        member.other_name[len(folder) :]: path
        for path, member in files.items()
        if member.other_name and member.other_name.startswith(folder)
    }
    if not others:
        return
    wanted = {nfc(path) for path in listed} | {nfc(unescape(path)) for path in listed}
    for utf8, path in others.items():
        if nfc(path) not in wanted and nfc(utf8) in wanted and utf8 not in files:
            member = files.pop(path)
            member.name = folder + utf8
            files[utf8] = member
            say.warn(FaultKind.NAME_CP437, bag=bag, path=utf8, detail="is UTF-8, which the zip does not say")


def check_unicode_twins(files: Mapping[str, Member], manifests: Iterable[Manifest], say: Findings, *, bag: str) -> None:
    """6.1.1.2: names that are equal once composed must be told apart by the manifests, each in its own spelling."""
    if all(name.isascii() for name in files):
        return
    for names in _index(files, nfc).values():
        if len(names) < 2:
            continue
        told_apart = any(all(name in manifest.entries for name in names) for manifest in manifests)
        for name in names:
            detail = f"equal in Unicode's composed form: {', '.join(map(ascii, names))}"
            say.judge(FaultKind.NAMES_COLLIDE, refuse=not told_apart, bag=bag, path=name, detail=detail)
