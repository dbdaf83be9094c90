"""Bags whose tag files are wrong, that are another work's, or that come several in a zip."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import bag_with, good_members, members_of, payload_manifest, zip_bytes
from tests.world.bags import SMALL_WORK, bag_members, manifest
from tests.world.verdicts import Case, Found, assert_named, each, named, refused

BAG = "W1.bag"
TAGS = "tagmanifest-sha512.txt"
INFO = "bag-info.txt"
SIZE, COUNT = sum(map(len, SMALL_WORK.values())), len(SMALL_WORK)
GOOD_INFO = f"BDRC-RID: W1\nPayload-Oxum: {SIZE}.{COUNT}\n".encode()
EMPTY_DIGEST = hashlib.sha512().hexdigest().encode()
TAG_LINES = {
    path.removeprefix(f"{BAG}/"): content
    for path, content in bag_members().items()
    if "/data/" not in path and "/tagmanifest" not in path
}


def bag(
    about: str,
    found: Collection[tuple[Kind, str]],
    replaced: Mapping[str, bytes | None],
    *,
    also: Collection[Kind] = (),
    policy: Policy | None = None,
    work_rid: str = "",
    files: Mapping[str, bytes] = SMALL_WORK,
    algorithms: Collection[str] = ("sha512",),
    sealed: bool = True,
) -> Case:
    """A bag in which only `replaced` is wrong; paths in `found` are relative to the bag."""
    contents = bag_with(replaced=replaced, files=files, algorithms=list(algorithms), sealed=sealed)
    where: list[Found] = [(kind, f"{BAG}/{path}" if path else BAG) for kind, path in found]
    return Case(about, lambda: zip_bytes(members_of(contents)), where, also, policy or Policy(), work_rid)


def oxum(about: str, kind: Kind, value: str) -> Case:
    return bag(about, [(kind, INFO)], {INFO: f"Payload-Oxum: {value}\n".encode()})


CASES = [
    bag("a tag file altered", [(Kind.TAG_DIGEST_DIFFERS, INFO)], {INFO: GOOD_INFO + b"Note: altered\n"}, sealed=False),
    bag(
        "its declaration altered within what is allowed",
        [(Kind.TAG_DIGEST_DIFFERS, "bagit.txt")],
        {"bagit.txt": b"BagIt-Version: 0.97\r\nTag-File-Character-Encoding: UTF-8\r\n"},
        sealed=False,
    ),
    bag(
        "its manifest altered together with a file",
        [(Kind.TAG_DIGEST_DIFFERS, "manifest-sha512.txt")],
        {"data/a": b"B", "manifest-sha512.txt": payload_manifest({"a": b"B"})},
        files={"a": b"A"},
        sealed=False,
    ),
    bag("a listed tag file missing", [(Kind.TAG_FILE_MISSING, INFO)], {INFO: None}, sealed=False),
    bag(
        "a manifest that its tag manifest does not list",
        [(Kind.TAG_FILE_UNLISTED, "manifest-sha512.txt")],
        {TAGS: manifest({p: c for p, c in TAG_LINES.items() if "manifest" not in p}, "sha512")},
    ),
    bag(
        "a tag manifest that lists itself",
        [(Kind.MANIFEST_PATH_MISPLACED, TAGS)],
        {TAGS: manifest(TAG_LINES, "sha512") + EMPTY_DIGEST + b"  " + TAGS.encode() + b"\n"},
        also=(Kind.TAG_DIGEST_DIFFERS,),
    ),
    bag(
        "a tag manifest that lists a payload file",
        [(Kind.MANIFEST_PATH_MISPLACED, "data/images/I1/I10001.jpg")],
        {TAGS: manifest({**TAG_LINES, "data/images/I1/I10001.jpg": SMALL_WORK["images/I1/I10001.jpg"]}, "sha512")},
    ),
    bag(
        "a tag manifest that lists a path outside",
        [(Kind.MANIFEST_PATH_UNSAFE, "../escaped")],
        {TAGS: manifest({**TAG_LINES, "../escaped": b""}, "sha512")},
        also=(Kind.TAG_FILE_MISSING,),
    ),
    bag(
        "a tag manifest with a line of garbage",
        [(Kind.MANIFEST_MALFORMED, TAGS)],
        {TAGS: manifest(TAG_LINES, "sha512") + b"?\n"},
    ),
    bag(
        "a tag file wrong in one of two tag manifests",
        [(Kind.TAG_DIGEST_DIFFERS, INFO)],
        {
            "tagmanifest-md5.txt": manifest(
                {**TAG_LINES, "manifest-md5.txt": payload_manifest(algorithm="md5"), INFO: b"!"}, "md5"
            )
        },
        algorithms=("sha512", "md5"),
    ),
    bag(
        "no tag manifest where one is required",
        [(Kind.TAG_MANIFEST_MISSING, "")],
        {TAGS: None},
        policy=Policy(require_tag_manifest=True),
    ),
    oxum("more bytes promised", Kind.OXUM_DIFFERS, f"{SIZE + 1}.{COUNT}"),
    oxum("more files promised", Kind.OXUM_DIFFERS, f"{SIZE}.{COUNT + 1}"),
    oxum("an Oxum without a dot", Kind.OXUM_MALFORMED, f"{SIZE}"),
    oxum("an Oxum of words", Kind.OXUM_MALFORMED, "many.few"),
    oxum("a negative Oxum", Kind.OXUM_MALFORMED, f"-{SIZE}.{COUNT}"),
    oxum("an Oxum of 5000 digits", Kind.OXUM_MALFORMED, f"{'9' * 5000}.{COUNT}"),
    bag("an Oxum twice", [(Kind.OXUM_REPEATED, INFO)], {INFO: GOOD_INFO + GOOD_INFO.splitlines(keepends=True)[1]}),
    bag("a bag-info line without a label", [(Kind.BAG_INFO_MALFORMED, INFO)], {INFO: GOOD_INFO + b"no label\n"}),
    bag(
        "a bag-info that begins with a continuation", [(Kind.BAG_INFO_MALFORMED, INFO)], {INFO: b"  more\n" + GOOD_INFO}
    ),
    bag("a bag-info not in its encoding", [(Kind.TAG_FILE_UNDECODABLE, INFO)], {INFO: GOOD_INFO + b"Name: \xff\n"}),
    bag(
        "a file still to be fetched",
        [(Kind.FETCH_NEEDED, "data/elsewhere.jpg")],
        {
            "fetch.txt": b"https://example.org/elsewhere.jpg 10 data/elsewhere.jpg\n",
            "manifest-sha512.txt": payload_manifest({**SMALL_WORK, "elsewhere.jpg": b"0123456789"}),
        },
        also=(Kind.FILE_MISSING,),
    ),
    bag("a fetch line that is none", [(Kind.FETCH_MALFORMED, "fetch.txt")], {"fetch.txt": b"fetch me\n"}),
    bag(
        "a fetch line to a place outside",
        [(Kind.MANIFEST_PATH_UNSAFE, "../../escaped")],
        {"fetch.txt": b"https://example.org/x - ../../escaped\n"},
        also=(Kind.FETCH_NEEDED, Kind.FETCH_MALFORMED),
    ),
]
WEAK = [
    bag(
        f"only {'and'.join(names)} where that is forbidden",
        [(Kind.ALGORITHM_WEAK, "")],
        {},
        algorithms=names,
        policy=Policy(allow_weak_digests=False),
    )
    for names in (("md5",), ("sha1",), ("md5", "sha1"))
]


def test_two_tag_manifests_of_one_algorithm_have_both_to_be_right(tmp_path: Path) -> None:
    tags = {**TAG_LINES, "notes.txt": b"notes"}
    right, wrong = manifest(tags, "sha512"), manifest({**tags, "notes.txt": b"other"}, "sha512")
    for upper, lower in ((right, wrong), (wrong, right)):
        replaced = {"notes.txt": b"notes", "tagmanifest-SHA512.txt": upper, TAGS: lower}
        faults = named(refused(tmp_path, zip_bytes(members_of(bag_with(replaced=replaced)))).faults)
        assert {path for _, path in faults} == {f"{BAG}/notes.txt"}


@each([*CASES, *WEAK])
def test_a_bag_is_refused_that_has(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content(), policy=case.policy).faults)


def test_tag_files_of_absurd_size_are_refused_quickly(tmp_path: Path) -> None:
    contents = bag_with(replaced={INFO: GOOD_INFO + b"Note: " + b"x" * (70 << 20) + b"\n"})
    faults = named(refused(tmp_path, zip_bytes(members_of(contents))).faults)
    assert faults == [(Kind.TAG_FILE_TOO_BIG, f"{BAG}/{INFO}")]


def test_a_bag_of_another_work_than_expected_is_refused(tmp_path: Path) -> None:
    content = zip_bytes(good_members("W2"))
    faults = refused(tmp_path, content, work_rid="W1", policy=Policy(rid_mismatch="refuse")).faults
    assert {kind for kind, _ in named(faults)} == {Kind.RID_MISMATCH}


def test_a_bag_that_tells_another_rid_than_its_folder_is_refused_where_that_is_set(tmp_path: Path) -> None:
    contents = bag_with(replaced={INFO: GOOD_INFO.replace(b"W1", b"W2")})
    faults = refused(tmp_path, zip_bytes(members_of(contents)), policy=Policy(rid_mismatch="refuse")).faults
    assert [kind for kind, _ in named(faults)] == [Kind.RID_MISMATCH]


def test_a_bag_whose_folder_can_name_no_work_is_refused(tmp_path: Path) -> None:
    for rid in ("..", "-rf", " ", "a;b", "$(x)"):
        members = {name.replace("W1.bag", f"{rid}.bag", 1): content for name, content in bag_members().items()}
        kinds = {kind for kind, _ in named(refused(tmp_path, zip_bytes(members_of(members))).faults)}
        assert kinds & {Kind.RID_INVALID, Kind.NAME_TRAVERSAL, Kind.NO_BAG}, rid


def test_a_bag_with_no_payload_folder_is_refused(tmp_path: Path) -> None:
    contents = {name: content for name, content in bag_with(files={}).items() if "/data" not in name}
    assert (Kind.PAYLOAD_MISSING, f"{BAG}/data") in named(refused(tmp_path, zip_bytes(members_of(contents))).faults)


def test_one_bad_bag_of_three_refuses_the_zip_and_is_the_one_that_is_named(tmp_path: Path) -> None:
    image = "W2.bag/data/images/I1/I10001.jpg"
    contents = {**bag_members("W1"), **bag_members("W2"), **bag_members("W3"), image: b"altered"}
    faults = refused(tmp_path, zip_bytes(members_of(contents))).faults
    assert {fault.bag for fault in faults} == {"W2.bag"}
    assert (Kind.DIGEST_DIFFERS, image) in named(faults)


def test_faults_of_several_bags_are_told_apart(tmp_path: Path) -> None:
    contents: dict[str, bytes] = {**bag_members("W1"), **bag_members("W2"), "W1.bag/data/x": b"extra"}
    del contents["W2.bag/bagit.txt"]
    found = named(refused(tmp_path, zip_bytes(members_of(contents))).faults)
    assert (Kind.FILE_UNLISTED, "W1.bag/data/x") in found
    assert (Kind.DECLARATION_MISSING, "W2.bag/bagit.txt") in found or (Kind.DECLARATION_MISSING, "W2.bag") in found


def test_two_bags_that_would_become_one_work_are_refused(tmp_path: Path) -> None:
    twin = {f"below/{name}": content for name, content in bag_members("W1").items()}
    kinds = {kind for kind, _ in named(refused(tmp_path, zip_bytes(members_of({**bag_members("W1"), **twin}))).faults)}
    assert Kind.SAME_WORK_TWICE in kinds


def test_a_file_beside_the_bags_is_refused_as_belonging_to_none(tmp_path: Path) -> None:
    faults = named(refused(tmp_path, zip_bytes(members_of({**bag_members(), "stray.txt": b"x"}))).faults)
    assert faults == [(Kind.OUTSIDE_BAG, "stray.txt")]


def test_a_zip_of_a_work_without_a_bag_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    faults = named(refused(tmp_path, zip_bytes(members_of({"W1/images/1.jpg": b"x"}))).faults)
    assert [kind for kind, _ in faults] == [Kind.UNBAGGED]
