"""Bags that hold several works in their payload, and works that hold the manifests of a bag they once came in."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import bagit
import pytest

from pipeline import debag
from pipeline.debag import Debagged, Policy
from pipeline.foundation import fixity
from pipeline.foundation.errors import InvalidBag
from pipeline.foundation.work import archive_dir
from tests.debag.test_good_bags import below
from tests.debag.test_kept import bag_again
from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, manifest, write_zip
from tests.world.folders import add_folder, drop
from tests.world.stack import Site, tree

GROUPED = {"W2-I1/images/1.jpg": b"one", "W2-I2/images/1.jpg": b"two"}
TWO = {
    **{f"W1/{path}": content for path, content in SMALL_WORK.items()},
    **{f"W2/{path}": content for path, content in GROUPED.items()},
}
UNBAGGED = Policy(allow_unbagged=True)


def unpacked(
    folder: Path, members: Mapping[str, bytes], *, name: str = "X.bag.zip", policy: Policy | None = None
) -> Debagged:
    return debag.unpack(write_zip(folder / name, members), into=folder / "out", policy=policy)


def refused(
    folder: Path, members: Mapping[str, bytes], *, name: str = "X.bag.zip", policy: Policy | None = None
) -> set[str]:
    with pytest.raises(InvalidBag) as refusal:
        unpacked(folder, members, name=name, policy=policy)
    assert not (folder / "out").exists()
    return {f"{fault.kind} {fault.path}".strip() for fault in refusal.value.faults}


def warned(result: Debagged) -> list[str]:
    return [f"{fault.kind} {fault.path}".strip() for fault in result.warnings]


def archived(
    files: Mapping[str, bytes] = SMALL_WORK, *, kept: Mapping[str, bytes] | None = None, rid: str = "W9"
) -> dict[str, bytes]:
    """A work as it lies in BDRC's archive, zipped as it is: with the manifests of its bag."""
    members = bag_members(rid, files=SMALL_WORK)
    manifests = {name: content for name, content in members.items() if "manifest-" in name}
    manifests = {f"{rid}/{name}": content for name, content in manifests.items()} if kept is None else dict(kept)
    return {f"{rid}/": b"", **{f"{rid}/{path}": content for path, content in files.items()}, **manifests}


def test_a_bag_whose_payload_is_several_works_becomes_these_works(tmp_path: Path) -> None:
    result = unpacked(tmp_path, bag_members("X", files=TWO))
    assert [(work.rid, work.files, work.verified) for work in result.works] == [
        ("W1", 3, "manifest"),
        ("W2", 2, "manifest"),
    ]
    assert {name: content for name, content in below(tmp_path / "out/W2").items() if ".bag/" not in name} == GROUPED
    assert warned(result) == ["shared-bag"]


def test_each_of_them_gets_its_part_of_the_manifests_and_the_bags_other_tag_files(tmp_path: Path) -> None:
    members = bag_members("X", files=TWO, algorithms=("sha512", "md5"))
    for work in unpacked(tmp_path, members).works:
        bag = bagit.Bag(str(bag_again(work, tmp_path / work.rid)))
        bag.validate()
        assert (bag.info["BDRC-RID"], sorted(bag.algorithms)) == (work.rid, ["md5", "sha512"])
        assert below(work.path / f"{work.rid}.bag/whole-bag") == {
            name: members[f"X.bag/{name}"]
            for name in ("bagit.txt", "bag-info.txt", "tagmanifest-sha512.txt", "tagmanifest-md5.txt")
        }
        listed = fixity.load(work.digests)
        assert (listed.verified, set(listed.files)) == ("manifest", set(below(work.path)))
        shutil.rmtree(tmp_path / work.rid)


def test_one_bad_byte_in_one_of_them_refuses_them_all(tmp_path: Path) -> None:
    members = bag_members("X", files=TWO)
    members["X.bag/data/W2/W2-I2/images/1.jpg"] = b"owt"
    assert refused(tmp_path, members) == {"digest-differs data/W2/W2-I2/images/1.jpg"}


def test_a_file_beside_the_works_would_be_lost_and_refuses_them(tmp_path: Path) -> None:
    files = {**TWO, "notes.txt": b"n", "W3.scans/images/1.jpg": b"s", ".DS_Store": b"litter"}
    assert refused(tmp_path, bag_members("X", files=files)) == {
        "outside-work data/notes.txt",
        "outside-work data/W3.scans/images/1.jpg",
    }


def test_what_an_operating_system_left_beside_the_works_is_left_out(tmp_path: Path) -> None:
    result = unpacked(tmp_path, bag_members("X", files={**TWO, ".DS_Store": b"litter"}))
    assert warned(result) == ["litter data/.DS_Store", "shared-bag"]
    assert not [name for name in below(tmp_path / "out") if "DS_Store" in name]


@pytest.mark.parametrize(
    "files",
    [
        {"images/1.jpg": b"1", "W2/images/1.jpg": b"2"},
        {"X-I1/images/1.jpg": b"1", "X-I2/images/1.jpg": b"2"},
        {"Y-I1/images/1.jpg": b"1", "Y-I2/images/1.jpg": b"2"},
        {"1/a.jpg": b"1", "2/a.jpg": b"2"},
        {"a.b/images/1.jpg": b"1", "c.d/images/1.jpg": b"2"},
        {"images": b"a file", "W2/images": b"another"},
    ],
)
def test_a_payload_that_is_a_work_itself_or_holds_none_is_one_work(tmp_path: Path, files: dict[str, bytes]) -> None:
    result = unpacked(tmp_path, bag_members("X", files=files))
    assert [work.rid for work in result.works] == ["X"]
    assert {name: content for name, content in below(tmp_path / "out/X").items() if ".bag/" not in name} == files
    assert result.warnings == ()


def test_a_payload_of_one_folder_that_is_the_work_is_that_work(tmp_path: Path) -> None:
    nested = {f"W1/{path}": content for path, content in SMALL_WORK.items()}
    result = unpacked(tmp_path, bag_members("W1", files=nested))
    assert {name for name in below(tmp_path / "out/W1") if ".bag/" not in name} == set(SMALL_WORK)
    assert result.warnings == ()


def test_but_not_if_the_bag_names_another(tmp_path: Path) -> None:
    nested = {f"W1/{path}": content for path, content in SMALL_WORK.items()}
    assert refused(tmp_path, bag_members("W7", files=nested)) == {"rid-mismatch"}


def test_two_bags_with_the_same_work_inside_are_refused(tmp_path: Path) -> None:
    members = {**bag_members("X", files=TWO), **bag_members("W2", files={"images/1.jpg": b"x"})}
    assert refused(tmp_path, members) == {"same-work-twice"}


def test_a_work_in_its_payload_that_was_archived_before_keeps_what_it_had(tmp_path: Path) -> None:
    files = {**TWO, "W1/W1.bag/manifest-sha512.txt": b"old"}
    result = unpacked(tmp_path, bag_members("X", files=files))
    assert (result.works[0].path / "W1.bag/manifest-sha512.txt").read_bytes() == b"old"
    bagit.Bag(str(bag_again(result.works[0], tmp_path / "again", "W1.bag.2"))).validate()


def test_tag_files_that_would_be_multiplied_beyond_the_payload_are_refused(tmp_path: Path) -> None:
    files = {f"W{number}/images/1.jpg": b"1" for number in range(100, 150)}
    members = bag_members("X", files=files)
    members = {name: content for name, content in members.items() if "tagmanifest" not in name}
    members["X.bag/notes.txt"] = bytes(2 << 20)
    assert refused(tmp_path, members) == {"tag-file-too-big"}
    del members["X.bag/notes.txt"]
    members |= {"X.bag/notes/1": b"", "X.bag/notes/2": b""}
    assert refused(tmp_path, members, policy=Policy(max_members=160)) == {"tag-file-too-big"}


@pytest.mark.parametrize("at_root", [False, True])
def test_a_work_zipped_as_it_lies_in_the_archive_is_verified_by_the_manifests_kept_with_it(
    tmp_path: Path, *, at_root: bool
) -> None:
    members = archived()
    if at_root:
        members = {name.removeprefix("W9/"): content for name, content in members.items() if name != "W9/"}
    result = unpacked(tmp_path, members, name="W9.zip", policy=UNBAGGED)
    (work,) = result.works
    assert (work.rid, work.files, work.verified) == ("W9", 3, "manifest")
    assert below(work.path) == {
        name.removeprefix("W9/"): content for name, content in members.items() if name[-1] != "/"
    }
    assert result.warnings == ()  # that bagit.txt and bag-info.txt are not there is BDRC's way
    assert fixity.load(work.digests).verified == "manifest"


def test_it_is_refused_where_the_source_has_no_works_without_a_bag(tmp_path: Path) -> None:
    assert refused(tmp_path, archived(), name="W9.zip") == {"unbagged"}


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({**SMALL_WORK, "images/I1/I10001.jpg": b"other"}, "digest-differs data/images/I1/I10001.jpg"),
        ({"images/I1/I10001.jpg": SMALL_WORK["images/I1/I10001.jpg"]}, "file-missing data/archive/I1/I10001.tif"),
    ],
)
def test_it_is_refused_if_it_is_not_what_they_say(tmp_path: Path, files: dict[str, bytes], fault: str) -> None:
    assert fault in refused(tmp_path, archived(files), name="W9.zip", policy=UNBAGGED)


def test_its_kept_manifests_are_proved_by_its_tag_manifest(tmp_path: Path) -> None:
    members = archived({**SMALL_WORK, "images/I1/I10001.jpg": b"other"})
    forged = manifest(
        {f"data/{path[3:]}": content for path, content in members.items() if ".bag/" not in path}, "sha512"
    )
    members["W9/W9.bag/manifest-sha512.txt"] = forged.replace(b"data/\n", b"data/images/I1/I10001.jpg\n")
    faults = refused(tmp_path, members, name="W9.zip", policy=UNBAGGED)
    assert "tag-digest-differs manifest-sha512.txt" in faults


def test_files_that_came_since_are_accepted_but_then_it_is_not_verified(tmp_path: Path) -> None:
    result = unpacked(tmp_path, archived({**SMALL_WORK, "new.txt": b"n"}), name="W9.zip", policy=UNBAGGED)
    assert result.works[0].verified == "none"
    assert warned(result) == ["file-unlisted data/new.txt"]
    assert (tmp_path / "out/W9/new.txt").read_bytes() == b"n"


def test_manifests_of_something_else_verify_nothing_and_are_kept_as_they_are(tmp_path: Path) -> None:
    strange = {"W9/W9.bag/": b"", "W9/W9.bag/manifest-sha512.txt": manifest({"data/else.jpg": b"e"}, "sha512")}
    result = unpacked(tmp_path, archived(kept=strange), name="W9.zip", policy=UNBAGGED)
    (work,) = result.works
    assert work.verified == "none"
    assert warned(result) == ["kept-manifests-strange W9.bag", "kept-name-taken W9.bag.2", "unbagged"]
    assert below(work.path / "W9.bag") == {"manifest-sha512.txt": strange["W9/W9.bag/manifest-sha512.txt"]}
    bagit.Bag(str(bag_again(work, tmp_path / "again", "W9.bag.2"))).validate()


def test_the_latest_of_several_kept_sets_counts_and_the_pipelines_own_proof_is_left_out(tmp_path: Path) -> None:
    old = {"W9.bag/manifest-sha512.txt": b"old", "W9.bag/bagit.txt": b"old"}
    first = unpacked(tmp_path / "first", bag_members("W9", files={**SMALL_WORK, **old})).works[0]
    members = {f"W9/{name}": content for name, content in below(first.path).items()}
    members["W9/W9.bag.2/W9.digests.json"] = b"{}"
    result = unpacked(tmp_path / "again", members, name="W9.zip", policy=UNBAGGED)
    assert (result.works[0].verified, warned(result)) == ("manifest", ["proof-left-out W9.bag.2/W9.digests.json"])
    assert below(result.works[0].path) == below(first.path)


def test_a_folder_that_is_called_a_bag_and_has_a_payload_is_a_bag_also_beside_works(tmp_path: Path) -> None:
    members = archived() | {"W9/W9.bag/data/images/1.jpg": b"hidden"}
    faults = refused(tmp_path, members, name="W9.zip", policy=UNBAGGED)
    assert "file-unlisted data/images/1.jpg" in faults
    deep = {f"deep/{name}": content for name, content in members.items()}
    found = unpacked(tmp_path / "deep", deep, name="W9.zip", policy=UNBAGGED)
    assert below(found.works[0].path)["W9.bag/data/images/1.jpg"] == b"hidden"
    assert found.works[0].verified == "none"


def test_a_plain_zip_with_entries_for_its_folders_is_accepted(tmp_path: Path) -> None:
    members = {"W9/": b"", "W9/images/": b"", **{f"W9/{path}": content for path, content in SMALL_WORK.items()}}
    assert [work.files for work in unpacked(tmp_path, members, name="W9.zip", policy=UNBAGGED).works] == [3]


def test_a_work_copied_out_of_the_archive_comes_home_to_what_is_there(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site, allow_unbagged="true")
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    first = site.call("run", "--lanes", "1")
    copy = tree(archive_dir(site.home / "archive", "W1"))
    drop(write_zip(tmp_path / "copy" / "W1.zip", {f"W1/{name}": content for name, content in copy.items()}), inbox)
    again = site.call("run", "--lanes", "1")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert f"W1.bag/{fixity.digests_name('W1')}" in copy
    assert tree(archive_dir(site.home / "archive", "W1")) == copy
    assert len(site.rows("syncs")) == 2
