"""The rules of a valid bag, and the words for what breaks them: all there, all explained, all used."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest

from pipeline.debag import FaultKind, refusal, rules
from pipeline.debag.faults import Findings
from pipeline.debag.manifests import Manifest, ManifestReader, Names
from pipeline.debag.tag_files import Declaration, lines, read_metadata, text_blocks, unescape
from pipeline.foundation.errors import Fault, InvalidBag
from pipeline.foundation.work import Bag

ROOT = Path(__file__).parents[2]
SOURCES = "".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py") if path.name != "faults.py")
DIGEST = "ab" * 64


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule_names_its_section_or_whose_rule_it_is(rule: rules.Rule) -> None:
    assert re.match(r"(\d(\.\d)*(, \d(\.\d)*)*|BDRC): ", rule.__doc__ or "")


def test_every_rule_that_is_written_is_applied() -> None:
    written = re.findall(
        r"^def (\w+)\(bag: BagRecord, _?policy: Policy, say: Findings\) -> None:",
        (ROOT / "pipeline/debag/rules.py").read_text(),
        re.MULTILINE,
    )
    assert [rule.__name__ for rule in rules.RULES] == [name for name in written if name != "check"]


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_of_fault_is_used_and_explained(kind: FaultKind) -> None:
    assert re.search(rf"\bFaultKind\.{kind.name}\b", SOURCES), "no code says it"
    assert kind.meaning.endswith(".")
    assert f"`{kind}`" in (ROOT / "docs/bags.md").read_text()


def manifest_of(text: str, version: tuple[int, int] = (0, 97)) -> tuple[dict[str, str], list[str]]:
    say, manifest = Findings(), Manifest("manifest-sha512.txt", "sha512", of_tags=False)
    ManifestReader(manifest, version, say, names=Names(most=100, most_bytes=1 << 20), most_entries=100).read([text])
    return manifest.entries, [fault.kind for fault in chain(*say.in_order())]


@pytest.mark.parametrize(
    "line",
    [
        "{}  data/a b",
        "{} data/a b",
        "{}\tdata/a b",
        "  {}  data/a b",
        "{} *data/a b",
        "{}  ./data/a b",
        "\n\n{}  data/a b\n",
    ],
)
def test_a_manifest_line_is_read_however_it_is_parted(line: str) -> None:
    assert manifest_of(line.format(DIGEST))[0] == {"data/a b": DIGEST}


@pytest.mark.parametrize("separator", ["\x0b", "\x1c", "\x85", "\u2028", "\u3000"])
def test_only_blanks_and_tabs_part_digest_and_name(separator: str) -> None:
    entries, kinds = manifest_of(f"{DIGEST}{separator}data/a\n")
    assert (entries, kinds) == ({}, ["manifest-malformed"])


@pytest.mark.parametrize("char", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_end_a_line(char: str) -> None:
    assert manifest_of(f"{DIGEST}  data/a{char}b\n") == ({f"data/a{char}b": DIGEST}, [])


def test_the_quick_reader_and_the_close_one_agree() -> None:
    plain = "".join(f"{number:0128x}  data/{number} x.jpg\n" for number in range(50))
    closely = manifest_of(plain + "\n" + f"{51:0128x} data/51\n")[0]
    closely.pop("data/51")
    assert manifest_of(plain) == (closely, [])


def test_percent_signs_are_decoded_once_and_only_as_far_as_the_version_says() -> None:
    assert unescape("a%0Ab%0dc%250A%41") == "a\nb\rc%0A%41"
    assert list(manifest_of(f"{DIGEST}  data/100%25\n", (1, 0))[0]) == ["data/100%"]
    assert list(manifest_of(f"{DIGEST}  data/100%25\n", (0, 97))[0]) == ["data/100%25"]


def test_a_name_given_twice_is_a_fault_unless_old_and_the_same() -> None:
    twice = f"{DIGEST}  data/a\n" * 2
    assert manifest_of(twice)[1] == ["listed-twice"]
    assert manifest_of(twice + f"{'cd' * 64}  data/a\n")[1] == ["manifests-disagree", "listed-twice"]


def test_bag_info_lines_go_on_where_they_begin_with_a_blank() -> None:
    say = Findings()
    assert read_metadata("A: 1\n  2\n\t3\nB:4\nno colon\n", say) == [("A", "1 2 3"), ("B", "4")]
    assert [fault.kind for fault in say.faults] == ["bag-info-malformed"]


def test_a_tag_file_is_read_in_the_encoding_that_is_declared() -> None:
    say = Findings()
    assert list(text_blocks(["ཀ".encode("utf-16")], Declaration(encoding="utf-16"), say)) == ["ཀ"]
    with pytest.raises(UnicodeDecodeError):
        list(text_blocks([b"\xff\xfe\xff"], Declaration(), say))


def test_lines_are_told_with_their_numbers() -> None:
    assert list(lines("a\r\n\r\nb\rc")) == [(1, "a"), (3, "b"), (4, "c")]


def test_of_a_million_faults_the_first_are_listed_and_all_are_counted() -> None:
    say = Findings()
    for number in range(50_000):
        say.of("W1.bag").fault(FaultKind.FILE_MISSING, "", path=f"data/{number * 7919 % 50_000:05}" * 3)
        say.warn(FaultKind.CASE_TWINS, "", path=str(number))
    say.fault(FaultKind.LINK, "d" * 10_000, path="x" * 10_000)
    faults, warnings = say.in_order()
    missing = [fault.path for fault in faults if fault.kind == "file-missing"]
    assert missing == [*(f"data/{number:05}" * 3 for number in range(2000)), ""], "not the first ones, in order"
    assert (faults[-1].detail, len(warnings)) == ("48,000 more of this kind were counted, and are not listed", 2001)
    assert max(len(fault.path + fault.detail) for fault in faults) < 12_000
    refused = InvalidBag("refused", faults=faults, unlisted=say.unlisted)
    assert refusal.counts(refused) == {"file-missing": 50_000, "link": 1}
    assert "50,001 faults" in refusal.as_text(refused, zip_name="x")


REFUSAL = InvalidBag(
    "W1.bag.zip is refused",
    faults=[Fault("digest-differs", "W1.bag", f"data/{n}.jpg", "sha512: …") for n in range(30)]
    + [Fault("not-a-zip", "", "", "evil \x1b[2J\u202e name")],
    warnings=[Fault("litter", "", ".DS_Store", "beside the bags")],
)
REFUSAL.kept = "the zip is untouched: /zips/W1.bag.zip"


def test_the_report_for_a_person_says_what_it_means_and_leaves_nothing_out() -> None:
    text = refusal.as_text(REFUSAL, zip_name="W1.bag.zip")
    assert text.startswith(
        "W1.bag.zip was refused: 31 faults.\nNothing of it was published. The zip is untouched: /zips/"
    )
    assert "/zips/W1.bag.zip.\n" in text  # as it is written: a path is no sentence
    assert "In W1.bag:\n  digest-differs (30): A file is not what it was" in text
    assert "Also odd, but no reason to refuse it:" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert all(f"{number}.jpg" in text for number in range(30))


def test_the_report_as_data_has_all_faults() -> None:
    data = refusal.as_data(REFUSAL, Bag("W1", "bucket", "W1.bag.zip", etag="e"), zip_name="W1.bag.zip")
    assert data["counts"] == {"digest-differs": 30, "not-a-zip": 1}
    assert json.loads(json.dumps(data)) == data
    assert len(data["faults"]) == 31
