"""`run_pipeline.py verify`: fixity checks of the archive, on demand and by age."""

import json
import signal
import time

import pytest

from pipeline import record
from pipeline.cli import main
from pipeline.foundation.errors import ArchiveMissing, InvalidBag, NotRestored, PipelineError, SyncFailed
from pipeline.foundation.work import Bag
from pipeline.operations import verify
from pipeline.record import Leases, Phase
from pipeline.sync import FixityVerdict
from tests.world.bags import SMALL_WORK
from tests.world.library import IMAGE, Library
from tests.world.stack import lines
from tests.world.works import put


def test_works_that_are_as_they_were_pass_and_the_check_is_in_the_record(library: Library) -> None:
    library.bring_home("W1")
    library.bring_home("W2")
    out = library.call("W1", "W2")
    assert lines(out, "W1", "passed", "W1.bag/W1.digests.json")
    assert lines(out, "2 works: 2 passed")
    (check,) = library.checks("W1")
    assert check["outcome"] == "passed"
    assert check["bag_id"]
    assert check["detail"]["premis_event_type"] == "fixity check"
    assert (check["detail"]["files"], check["detail"]["algorithms"]) == (3, ["sha512"])


def test_one_report_names_everything_wrong_in_the_whole_archive_and_the_status_is_1(library: Library) -> None:
    flipped, lost = library.bring_home("W1"), library.bring_home("W2")
    library.bring_home("W3")
    put(library.home.root / "Archive2/51/W9FPL2251", SMALL_WORK)  # nobody knows where from
    (flipped / IMAGE).write_bytes(b"F" + SMALL_WORK[IMAGE][1:])
    lost.rename(library.home.folder / "lost")
    report = library.report("--all", status=1)
    assert report["verdicts"] == {"passed": 1, "failed": 2, "no-proof": 1, "busy": 0}
    works = {work["work_rid"]: work for work in report["works"]}
    assert works["W1"]["wrong"] == [{"path": IMAGE, "detail": "other sha512"}]
    assert works["W2"]["wrong"][0]["detail"] == "is not in the archive"
    assert works["W9FPL2251"]["verdict"] == "no-proof"
    assert library.checks("W1")[0]["detail"]["wrong"] == works["W1"]["wrong"]
    out = library.call("--all", status=1)
    assert lines(out, f"W1: {IMAGE} (other sha512)")
    assert lines(out, "W9FPL2251", "no-proof", "neither digests nor manifests are kept")
    assert lines(out, "4 works: 1 passed, 2 failed, 1 no-proof")
    assert not lines(out, "W3")
    assert lines(library.call("W1", verb="status"), f"    {IMAGE}: other sha512")


def test_a_work_without_proof_is_no_success_when_it_is_asked_for_by_name(library: Library) -> None:
    put(library.home.root / "Archive0/00/W1", SMALL_WORK)
    assert library.verdicts("W1", status=1) == {"W1": "no-proof"}
    assert library.verdicts("--all") == {"W1": "no-proof"}
    assert "the record knows no such work" in library.call("W404", status=2)  # misspelt, not lost


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (InvalidBag("it is damaged", faults=()), "refused"),
        (NotRestored("it is frozen"), "not-restored"),
        (SyncFailed("the copy stopped half-way"), "failed"),
    ],
)
def test_what_never_came_home_is_not_archived_and_raises_no_alarm(
    library: Library, error: PipelineError, state: str
) -> None:
    bag = Bag("W 1", "bucket", "W 1.bag.zip", etag="e")
    with library.here.leased(bag.work_rid, bag.bag_id):
        library.here.record.see(bag)
        library.here.record.failed(bag, Phase.SYNC, error)
    put(library.home.root / "Archive0/00/W 1", {"W 1.bag/manifest-md5.txt": b"0" * 32 + b"  data/lost"})  # a part of it

    told = library.call("W 1", status=2)

    assert lines(told, f"W 1: not archived: its newest bag is {state}", "go on with: run_pipeline.py explain 'W 1'")
    assert library.verdicts("--all") == {}
    assert library.checks("W 1") == []
    assert record.broken(library.here.engine) == []


def test_the_name_of_a_zip_with_other_works_leads_to_those(library: Library) -> None:
    bag = Bag("batch7", "bucket", "batch7.bag.zip", etag="e")
    with library.here.leased(bag.work_rid, bag.bag_id):
        library.here.record.see(bag)
        library.here.record.finished(Phase.DEBAG, bag, {}, works=("W 5", "W6"))
        library.here.record.done(bag)

    told = library.call("batch7", status=2)

    assert lines(told, "it is the name of a zip with the works 'W 5' W6", "run_pipeline.py verify 'W 5' W6")
    assert library.checks("batch7") == []


def test_a_work_that_is_brought_home_once_more_is_archived_all_the_while(library: Library) -> None:
    path = library.bring_home("W1")
    (row,) = library.here.record.bags_of("W1")
    with library.here.leased("W1", row.bag.bag_id):
        library.here.record.reopen(row.bag, reason="asked for again from sync", undo_syncs=True)
    (path / IMAGE).write_bytes(b"rotten")

    assert library.verdicts("--all", status=1) == {"W1": "failed"}
    assert library.verdicts("W1", status=1) == {"W1": "failed"}


def test_an_alarm_ends_by_an_operator_s_word_with_its_reason_until_a_check_fails_again(library: Library) -> None:
    path = library.bring_home("W1")
    (path / IMAGE).unlink()
    library.call("W1", status=1)

    silent = library.call("--forget", "W1", status=2)
    unknown = library.call("--forget", "W2", "--reason", "withdrawn", status=2)
    raised = [one.work_rid for one in record.broken(library.here.engine)]
    library.call("--forget", "W1", "--reason", "its owner took it back")
    ended = record.broken(library.here.engine)
    story = library.call("W1", verb="explain")
    twice = library.call("--forget", "W1", "--reason", "again", status=2)
    library.call("W1", status=1)

    assert "--forget RID with --reason TEXT is needed" in silent
    assert (raised, ended) == (["W1"], [])
    for told in (unknown, twice):
        assert lines(told, "no failed fixity check of it stands; nothing was changed")
    assert lines(story, "fixity", "forgotten", "its owner took it back")
    assert not lines(story, "go on with", "--replace")
    assert [one.work_rid for one in record.broken(library.here.engine)] == ["W1"]


def test_the_oldest_are_those_whose_last_check_or_sync_is_longest_ago(library: Library) -> None:
    for rid in ("W1", "W2", "W3"):
        library.bring_home(rid)
    put(library.home.root / "Archive0/00/W4", SMALL_WORK)
    assert list(library.verdicts("--oldest", "2")) == ["W4", "W1"]
    assert list(library.verdicts("--oldest", "2")) == ["W2", "W3"]
    assert list(library.verdicts("--oldest", "9")) == ["W4", "W1", "W2", "W3"]


@pytest.mark.parametrize("wrong", [(), ("W1", "--all"), ("--all", "--oldest", "1"), ("W1", "--oldest", "1")])
def test_it_has_to_be_clear_which_works_are_meant(wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify", *wrong]) == 2
    wanted = "one of RID…, --all, --oldest N, --due DAYS, and --forget RID with --reason TEXT is needed"
    assert wanted in capsys.readouterr().err


def test_what_can_be_no_rid_is_wrong_usage(library: Library) -> None:
    assert "'../x' is no work identifier" in library.call("../x", status=2)


def test_an_archive_that_is_out_of_reach_is_no_loss_of_works(library: Library) -> None:
    path = library.bring_home("W1")
    library.home.root.rename(library.home.folder / "elsewhere")
    assert "may be unmounted" in library.call("W1", status=3)
    library.home.root.mkdir()
    (library.home.root / "Archive0").mkdir()
    assert "Archive0 is out of reach (it is empty)" in library.call("--all", status=3)
    assert library.checks("W1") == []
    assert not path.exists()


def test_a_share_point_without_its_marker_is_out_of_reach(library: Library) -> None:
    path = library.bring_home("W1")
    library.environment["PIPELINE_SYNC_MOUNT_MARKER"] = ".mounted"
    assert "Archive0 is out of reach (it has no .mounted)" in library.call("W1", status=3)
    assert "no .mounted in Archive0, Archive1, Archive2, Archive3" in library.call("--all", status=3)
    put(path.parent.parent, {".mounted": b""})
    assert library.verdicts("W1") == {"W1": "passed"}


def test_a_work_that_is_being_synced_is_not_reported_wrong(library: Library) -> None:
    path = library.bring_home("W1")
    (path / IMAGE).unlink()
    lane = Leases(library.here.engine, owner="lane", seconds=60)
    assert lane.take("W1", "another")
    assert library.verdicts("W1") == {"W1": "busy"}
    assert library.checks("W1") == []
    lane.release("W1")
    assert library.verdicts("W1", status=1) == {"W1": "failed"}


def test_a_work_that_was_synced_while_it_was_read_is_not_reported_wrong(library: Library) -> None:
    path = library.bring_home("W1")
    (work,) = verify.by_name(library.here, ["W1"])
    library.bring_home("W1")  # a later bag, of which the check does not know
    (path / IMAGE).unlink()
    verdicts = []
    for known in (work, *verify.by_name(library.here, ["W1"])):
        checked = verify.check_work(library.here, known)
        assert checked is not None
        verdicts.append(checked.verdict)
    assert verdicts == [FixityVerdict.BUSY, FixityVerdict.FAILED]


def test_a_share_point_that_goes_away_meanwhile_ends_the_run(library: Library) -> None:
    library.bring_home("W1")
    (work,) = verify.by_name(library.here, ["W1"])
    (library.home.root / "Archive0").rename(library.home.folder / "unmounted")
    with pytest.raises(ArchiveMissing, match="may be unmounted"):
        verify.check_work(library.here, work)


def test_a_check_that_is_stopped_tells_what_it_has_found_and_that_it_is_not_all(library: Library) -> None:
    library.bring_home("W1", {"a": b"x"})
    library.bring_home("W2", {"a": b"x" * 100_000})
    process = library.start("W1", "W2", "--max-rate", "100", "--json")
    until = time.monotonic() + 60
    while not library.checks("W1"):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    report = json.loads(out)
    assert (report["asked"], report["not_reached"]) == (2, 1)
    assert [work["work_rid"] for work in report["works"]] == ["W1"]
    assert "checked 1 of 2 works" in err
