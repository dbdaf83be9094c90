"""What a zip's refusal and its acceptance must look like on disk, asserted the same way for every zip of the corpus."""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import debag
from pipeline.debag import FaultKind
from pipeline.foundation.errors import Fault, InvalidBag
from tests.world.awkward import tree, write

Found = tuple[FaultKind, str]
"""A fault's kind, and what it is about: the member as the zip names it, or the bag's folder, or nothing."""


@dataclass(frozen=True)
class Case:
    """A zip, and what must be said of it.

    Attributes:
        about: the case in words; with the test's name it makes a sentence.
        content: makes the zip.
        found: everything that must be named: faults of a bad zip, warnings of a good one.
        also: kinds that may be named besides, because they follow from what was planted.
        policy: under which it is judged.
        work_rid: the work that is expected.
    """

    about: str
    content: Callable[[], bytes]
    found: Collection[Found]
    also: Collection[FaultKind] = ()
    policy: debag.Policy = field(default_factory=debag.Policy)
    work_rid: str = ""


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """The test runs once a case."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.about.replace(" ", "-")) for case in cases])


def name_of(fault: Fault) -> str:
    """The full name, whether the path is given from the zip's root or from the bag's."""
    if not fault.bag or fault.path == fault.bag or fault.path.startswith(f"{fault.bag}/"):
        return fault.path or fault.bag
    return f"{fault.bag}/{fault.path}" if fault.path else fault.bag


def named(faults: Iterable[Fault]) -> list[Found]:
    """The faults as the corpus writes them down."""
    return sorted((FaultKind(fault.kind), name_of(fault)) for fault in faults)


def refused(
    folder: Path, content: bytes, *, policy: debag.Policy | None = None, work_rid: str = "", threads: int = 2
) -> InvalidBag:
    """The refusal of a zip; it left zip and surroundings as they were, and neither a result nor staging."""
    bag_zip = write(folder / "in" / "W1.bag.zip", content)
    write(folder / "out" / "neighbour" / "kept.txt", b"not to be touched")
    before = tree(folder)
    with pytest.raises(InvalidBag) as refusal:
        debag.unpack(
            bag_zip,
            into=folder / "out" / "W1",
            work_rid=work_rid,
            policy=policy or debag.Policy(),
            threads=threads,
            durable=False,
        )
    assert tree(folder) == before
    assert refusal.value.faults
    return refusal.value


def accepted(
    folder: Path, content: bytes, *, policy: debag.Policy | None = None, work_rid: str = "", threads: int = 2
) -> debag.Debagged:
    """What became of a good zip; it left zip and surroundings as they were, and no staging."""
    bag_zip = write(folder / "in" / "W1.bag.zip", content)
    write(folder / "out" / "neighbour" / "kept.txt", b"not to be touched")
    before = tree(folder)
    result = debag.unpack(
        bag_zip,
        into=folder / "out" / "W1",
        work_rid=work_rid,
        policy=policy or debag.Policy(),
        threads=threads,
        durable=False,
    )
    after = {path: state for path, state in tree(folder).items() if not f"{path}/".startswith("out/W1/")}
    assert after == before
    assert (folder / "out" / "W1").is_dir()
    return result


def assert_named(case: Case, faults: Iterable[Fault]) -> None:
    """Everything planted is named, once each, and nothing else but what follows from it."""
    seen = named(faults)
    expected = sorted(case.found)
    missing = [one for one in expected if one not in seen]
    stray = [one for one in seen if one not in expected and one[0] not in case.also]
    assert (missing, stray) == ([], []), f"all that was named: {seen}"
    assert len(seen) == len(set(seen)), f"named more than once: {seen}"


def payload_of(work: debag.DebaggedWork) -> dict[str, bytes]:
    """The unpacked payload by path, in NFC, without the bag's own tag files."""
    kept = work.path / f"{work.rid}.bag"
    return {
        unicodedata.normalize("NFC", str(path.relative_to(work.path))): path.read_bytes()
        for path in work.path.rglob("*")
        if path.is_file() and not path.is_relative_to(kept)
    }


def assert_unpacked(result: debag.Debagged, works: Mapping[str, Mapping[str, bytes]]) -> None:
    """The works, and no others, lie there with exactly these files."""
    assert {work.rid: payload_of(work) for work in result.works} == works
    for work in result.works:
        files = works[work.rid]
        assert (work.files, work.bytes) == (len(files), sum(map(len, files.values())))
