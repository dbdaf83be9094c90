"""Zips dropped into a folder come home like messages: claimed, brought home once, moved out, or kept with a report."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK, bag_members, make_bag_zip, write_zip
from tests.world.folders import add_folder, drop, lying_in
from tests.world.stack import SHORT_LEASE, Site, lines, wait_until

BAD_IMAGE = "images/I1/I10001.jpg"


def test_a_dropped_zip_comes_home_and_is_moved_to_the_done_ones(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    drop(make_bag_zip(tmp_path, "W2"), inbox, "W2.zip")
    site.announce(make_bag_zip(tmp_path, "W3"))

    ended = site.call("run", "--lanes", "2")
    again = site.call("run", "--lanes", "1")

    assert (ended.returncode, again.returncode) == (0, 0), ended.stderr
    assert {rid: site.archived(rid) for rid in site.works()} == dict.fromkeys(["W1", "W2", "W3"], SMALL_WORK)
    assert lying_in(inbox) == ["done/W1.bag.zip", "done/W2.zip"]
    assert lines(ended.stderr, "ended: 3 done, 0 failed")
    assert lines(again.stderr, "ended: 0 done, 0 failed")
    assert site.staged() == []
    assert site.rows("leases") == []


@pytest.mark.parametrize(("done", "left"), [("delete", []), ("keep", ["W1.bag.zip"])])
def test_a_zip_that_is_home_is_deleted_or_kept_as_set(site: Site, tmp_path: Path, done: str, left: list[str]) -> None:
    inbox = add_folder(site, done=done)
    drop(make_bag_zip(tmp_path, "W1"), inbox)

    first = site.call("run", "--lanes", "1")
    again = site.call("run", "--lanes", "1")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    assert site.archived("W1") == SMALL_WORK
    assert lying_in(inbox) == left
    assert not lines(again.stderr, "W1")  # what was kept is known by its stamp, and not read again


def test_a_zip_of_several_works_and_a_plain_one_come_home_where_that_is_allowed(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site, allow_unbagged="true")
    drop(write_zip(tmp_path / "two.zip", {**bag_members("W1"), **bag_members("W2")}), inbox, "two works.zip")
    drop(write_zip(tmp_path / "W3.zip", {f"W3/{name}": content for name, content in SMALL_WORK.items()}), inbox)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert [site.archived(rid) for rid in ("W1", "W2", "W3")] == [SMALL_WORK] * 3
    assert lying_in(inbox) == ["done/W3.zip", "done/two works.zip"]


def test_a_refused_zip_is_moved_out_with_its_report_and_taken_again_when_it_is_dropped_again(
    site: Site, tmp_path: Path
) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W2", algorithms=("md5",)), inbox)

    refused = site.call("run", "--lanes", "1", PIPELINE_DEBAG_ALLOW_WEAK_DIGESTS="false")
    left = site.call("run", "--lanes", "1")
    (kept,) = (inbox / "refused").glob("*/W2.bag.zip")
    report = (kept.parent / "report.txt").read_text(encoding="utf-8")
    status = site.call("status").stdout
    kept.rename(inbox / "W2.bag.zip")
    repaired = site.call("run", "--lanes", "1")

    assert (refused.returncode, left.returncode, repaired.returncode) == (1, 0, 0), refused.stderr + repaired.stderr
    assert lines(refused.stderr, "W2", str(kept), "put a mended bag into")
    assert f"The zip is kept at {kept}" in report
    assert lines(status, str(inbox), "0 waiting", "1 refused")
    assert "md5" in report
    assert not lines(left.stderr, "W2")
    assert site.archived("W2") == SMALL_WORK
    assert lying_in(inbox) == ["done/W2.bag.zip"]


def test_a_mended_zip_under_the_same_name_is_another_bag(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W2", corrupt=BAD_IMAGE), inbox)
    refused = site.call("run", "--lanes", "1")

    drop(make_bag_zip(tmp_path, "W2"), inbox)
    mended = site.call("run", "--lanes", "1")

    assert (refused.returncode, mended.returncode) == (1, 0), mended.stderr
    assert site.archived("W2") == SMALL_WORK
    assert [name.rpartition("/")[2] for name in lying_in(inbox)] == ["W2.bag.zip", "W2.bag.zip"]


def test_a_done_zip_never_overwrites_another(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    (inbox / "done").mkdir()
    (inbox / "done" / "W1.bag.zip").write_bytes(b"an older one")
    bag_zip = make_bag_zip(tmp_path, "W1")
    drop(bag_zip, inbox)

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 0, ended.stderr
    assert (inbox / "done" / "W1.bag.zip").read_bytes() == b"an older one"
    assert (inbox / "done" / "W1.2.bag.zip").read_bytes() == bag_zip.read_bytes()


def test_only_whole_plain_zips_are_taken(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    bag_zip = make_bag_zip(tmp_path, "W1")
    for name in (".W1.bag.zip", "W1.bag.zip.part", "W1.part.zip", "W1.tmp.zip", "~W1.zip", "W1.txt", "zip"):
        shutil.copy(bag_zip, inbox / name)
    (inbox / "W2.zip").write_bytes(bag_zip.read_bytes()[:-10])
    (inbox / "W3.zip").symlink_to(bag_zip)
    (inbox / "W4.zip").mkdir()
    os.mkfifo(inbox / "W5.zip")
    before = sorted(path.name for path in inbox.iterdir())

    ended = site.call("run", "--lanes", "1")
    status = site.call("status").stdout

    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in inbox.iterdir()) == before
    assert site.works() == {}
    assert lines(ended.stderr, "W2.zip does not end as a zip")
    assert lines(status, "0 waiting", "not whole", "W2.zip", "no plain files: W3.zip, W4.zip, W5.zip")


def test_a_zip_that_stays_cut_off_is_refused_in_the_end(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site, incomplete_seconds="0")
    (inbox / "W2.zip").write_bytes(make_bag_zip(tmp_path, "W2").read_bytes()[:-10])

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert site.works()["W2"].stage == "refused"
    assert [name.rpartition("/")[2] for name in lying_in(inbox)] == ["W2.zip"]


@pytest.mark.parametrize("hours", [2, -2])
def test_a_file_server_whose_clock_is_wrong_makes_no_zip_look_older_or_newer(
    site: Site, tmp_path: Path, hours: int
) -> None:
    inbox = add_folder(site)
    whole = make_bag_zip(tmp_path, "W1")
    (inbox / "W1.zip").write_bytes(whole.read_bytes()[:-10])  # still being written
    drop(whole, inbox, "W1.bag.zip")
    (tmp_path / "sitecustomize.py").write_text(
        f"import time\nreal = time.time\ntime.time = lambda: real() + {hours * 3600}\n"
    )

    ended = site.call("run", "--lanes", "1", PYTHONPATH=str(tmp_path))

    assert ended.returncode == 0, ended.stderr
    assert lying_in(inbox) == ["W1.zip", "done/W1.bag.zip"]
    assert sorted(path.name for path in inbox.iterdir()) == [".settling", "W1.zip", "done"]


def test_a_zip_written_slowly_is_not_taken_before_it_is_whole_and_two_lanes_take_each_once(
    site: Site, tmp_path: Path
) -> None:
    inbox = add_folder(site)
    for number in range(2, 8):
        drop(make_bag_zip(tmp_path, f"W{number}"), inbox)
    content = make_bag_zip(tmp_path, "W1").read_bytes()
    watch = site.start("run", "--watch", "--lanes", "2", PIPELINE_SOURCE_INBOX_SETTLE_SECONDS="4")
    try:
        with (inbox / "W1.zip").open("wb", buffering=0) as file:
            for start in range(0, len(content), len(content) // 8):
                assert "W1" not in site.works()
                file.write(content[start : start + len(content) // 8])
                time.sleep(0.4)
        wait_until((inbox / "done" / "W1.zip").exists)
        wait_until(lambda: len(lying_in(inbox / "done")) == 7)
        watch.terminate()
        _, err = watch.communicate(timeout=30)
    finally:
        watch.kill()
        watch.communicate()

    assert watch.returncode == 0, err
    assert {rid: site.archived(rid) for rid in site.works()} == {f"W{n}": SMALL_WORK for n in range(1, 8)}
    assert [len(lines(err, f"W{n}: debagging")) for n in range(1, 8)] == [1] * 7
    assert len(site.rows("syncs")) == 7
    assert len([row for row in site.rows("events") if row["outcome"] == "moved"]) == 7


def test_two_hosts_that_share_the_folder_take_each_zip_once(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    names = [f"W{number}" for number in range(1, 7)]
    for name in names:
        drop(make_bag_zip(tmp_path, name), inbox)

    hosts = [
        site.start(
            *("run", "--lanes", "1"),
            PIPELINE_PIPELINE_HOST=host,
            PIPELINE_PIPELINE_STAGING=str(tmp_path / host),
            PIPELINE_PIPELINE_LOGS=str(tmp_path / f"logs-{host}"),
        )
        for host in ("one", "other")
    ]
    told = [host.communicate(timeout=120)[1] for host in hosts]

    assert [host.returncode for host in hosts] == [0, 0], told
    assert {rid: site.archived(rid) for rid in site.works()} == dict.fromkeys(names, SMALL_WORK)
    assert [len(lines("".join(told), f"{name}: debagging")) for name in names] == [1] * 6
    assert lying_in(inbox) == [f"done/{name}.bag.zip" for name in names]


def test_all_that_is_wrong_with_a_folder_s_settings_is_told_at_once(site: Site) -> None:
    add_folder(
        site, done="burn", settle_seconds="soon", allow_unbagged="perhaps", bucket="b", done_path=f"{site.home}/inbox"
    )

    ended = site.call("run", PIPELINE_SOURCE_INBOX_SETTLE_SECONDS="soon")

    assert ended.returncode == 2
    for told in (
        "'burn', not move, delete, keep",
        "'soon', not a number",
        "'perhaps'",
        "no setting 'bucket'",
        "done_path",
    ):
        assert lines(ended.stderr, "[source inbox]", told)


def test_a_run_waits_for_a_zip_that_has_only_to_settle(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)

    ended = site.call("run", "--lanes", "1", PIPELINE_SOURCE_INBOX_SETTLE_SECONDS="2")

    assert ended.returncode == 0, ended.stderr
    assert lying_in(inbox) == ["done/W1.bag.zip"]


def test_a_zip_replaced_while_it_is_worked_on_is_not_mistaken_for_the_old_one(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site, done="delete")
    other = {**SMALL_WORK, "images/I1/I10001.jpg": b"FIRST IMAGE" * 100}
    new = make_bag_zip(tmp_path / "new", "W1", files=other)
    old = drop(make_bag_zip(tmp_path, "W1"), inbox)
    assert new.stat().st_size == old.stat().st_size
    script = tmp_path / "slow.sh"
    script.write_text(
        f"touch {tmp_path}/begun\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n"
        f'exec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n',
        encoding="utf-8",
    )
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    try:
        wait_until((tmp_path / "begun").exists)
        times = old.stat()
        drop(new, inbox)
        os.utime(old, ns=(times.st_atime_ns, times.st_mtime_ns))
        (tmp_path / "go").touch()
        _, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.communicate()

    assert site.archived("W1") == SMALL_WORK, err
    assert run.returncode == 1, err  # the archive has other content: the new one is refused, and kept
    (kept,) = (inbox / "refused").glob("*/W1.bag.zip")
    assert kept.read_bytes() == new.read_bytes()
    assert lying_in(inbox) == [str(kept.relative_to(inbox))]


def test_any_name_is_either_taken_or_refused_and_never_lost(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    taken = {"W1": 'W1.it\'s "quoted" $(x);.zip', "W2": "W2.ZIP", "བཀྲ W1FPL2252": "བཀྲ W1FPL2252.bag.zip"}
    refused = ["it's.zip", "W3.new\nline.zip", "new\nline.zip", "W4.\udcff.zip", "-rf.zip"]
    for rid, name in taken.items():
        drop(make_bag_zip(tmp_path, rid), inbox, name)
    for name in refused:
        drop(make_bag_zip(tmp_path, "W5"), inbox, name)

    ended = site.call("run", "--lanes", "1")
    status = site.call("status")

    kept = {path.name: path for path in (inbox / "refused").glob("name-*/*.zip")}
    assert (ended.returncode, status.returncode) == (1, 0), ended.stderr + status.stderr
    assert {rid: site.archived(rid) for rid in site.works()} == dict.fromkeys(taken, SMALL_WORK)
    assert sorted(path.name for path in (inbox / "done").iterdir()) == sorted(taken.values())
    assert sorted(kept) == sorted(refused)
    assert len(lying_in(inbox)) == len(taken) + len(refused)
    for path in kept.values():
        assert path.read_bytes() == (tmp_path / "W5.bag.zip").read_bytes()
        assert "RID.bag.zip" in (path.parent / "report.txt").read_text(encoding="utf-8")


def test_a_report_bears_nothing_of_a_name_that_a_terminal_would_obey(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    evil = "\x1b[2J\x1b]0;owned\x07\u202egnp.\u2066\x9b31m"
    contents = bag_members("W1", files={f"images/{evil}.jpg": b"page"})
    del contents[f"W1.bag/data/images/{evil}.jpg"]
    drop(write_zip(tmp_path / "W1.bag.zip", contents), inbox)
    drop(make_bag_zip(tmp_path, "W2"), inbox, f"W2.{evil}.zip")

    site.call("run", "--lanes", "1")

    reports = [path.read_text(encoding="utf-8") for path in (inbox / "refused").glob("*/report.txt")]
    assert len(reports) == 2
    for report in reports:
        assert "gnp." in report
        assert all(char.isprintable() or char == "\n" for char in report)


def test_a_transient_failure_leaves_the_zip_and_is_tried_again_after_its_delay(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    (tmp_path / "fails.sh").write_text("exit 12\n", encoding="utf-8")

    failed = site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(tmp_path / "fails.sh"))
    lying = lying_in(inbox)
    time.sleep(1.1)
    later = site.call("run", "--lanes", "1")

    assert (failed.returncode, lying) == (1, ["W1.bag.zip"])
    assert later.returncode == 0, later.stderr
    assert not lines(later.stderr, "debagging")
    assert site.archived("W1") == SMALL_WORK
    assert lying_in(inbox) == ["done/W1.bag.zip"]


def test_a_zip_in_work_is_given_back_when_the_run_is_stopped(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    (tmp_path / "slow.sh").write_text(f"touch {tmp_path}/begun\nsleep 60\n", encoding="utf-8")
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(tmp_path / "slow.sh"))
    try:
        wait_until((tmp_path / "begun").exists)
        run.terminate()
        _, err = run.communicate(timeout=30)
    finally:
        run.kill()
        run.communicate()
    leases = site.rows("leases")
    site.call("run", "--lanes", "1")

    assert (run.returncode, leases) == (0, []), err
    assert site.archived("W1") == SMALL_WORK
    assert lying_in(inbox) == ["done/W1.bag.zip"]


def test_a_folder_that_is_not_there_is_named_and_holds_up_nothing_else(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    inbox.rename(site.home / "unmounted")
    site.announce(make_bag_zip(tmp_path, "W2"))

    away = site.call("run", "--lanes", "1")
    check, status = site.call("check").stdout, site.call("status").stdout
    (site.home / "unmounted").rename(inbox)
    back = site.call("run", "--lanes", "1")

    assert (away.returncode, back.returncode) == (3, 0), back.stderr
    assert not (site.home / "inbox" / "refused").exists()
    for told in (away.stderr, check, status):
        assert lines(told, str(inbox), "mount it")
    assert site.archived("W1") == site.archived("W2") == SMALL_WORK


def test_a_folder_that_vanishes_under_a_begun_work_is_waited_for(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    killed = site.call("run", "--lanes", "1", PIPELINE_TEST_KILL_AT="leases taken", **SHORT_LEASE)
    time.sleep(2.1)
    inbox.rename(site.home / "unmounted")

    away = site.call("run", "--lanes", "1")
    state = site.works()["W1"].stage
    (site.home / "unmounted").rename(inbox)
    back = site.call("run", "--lanes", "1")

    assert lines(killed.stderr, "lane 1 died", "-9")
    assert (away.returncode, state, back.returncode) == (3, "waiting", 0), back.stderr
    assert lying_in(inbox) == ["done/W1.bag.zip"]


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder mounted over itself, read-only."""
    bind = ["mount", "--bind", str(folder), str(folder)]
    if os.geteuid() != 0 or subprocess.run(bind, check=False, capture_output=True).returncode:
        pytest.skip("this needs to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_folder_is_named_before_anything_is_done_unless_nothing_is_to_be_moved(
    site: Site, tmp_path: Path
) -> None:
    inbox = add_folder(site)
    drop(make_bag_zip(tmp_path, "W1"), inbox)

    with read_only(inbox):
        stuck = site.call("run", "--lanes", "1")
        check = site.call("check")
        works = site.works()
        kept = site.call("run", "--lanes", "1", PIPELINE_SOURCE_INBOX_DONE="keep")
        again = site.call("run", "--lanes", "1", PIPELINE_SOURCE_INBOX_DONE="keep")

    assert (stuck.returncode, check.returncode, works) == (3, 3, {})
    assert lines(stuck.stderr, str(inbox), "done = keep")
    assert lines(check.stdout, "folder inbox", "wrong")
    assert (kept.returncode, again.returncode) == (0, 0), kept.stderr
    assert site.archived("W1") == SMALL_WORK
    assert not lines(again.stderr, "debagging")


def test_a_zip_that_may_not_be_read_is_named_left_alone_and_taken_when_it_may(site: Site, tmp_path: Path) -> None:
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if powerless and subprocess.run([*powerless, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root cannot be made to ask for permission here")
    inbox = add_folder(site)
    dropped = drop(make_bag_zip(tmp_path, "W1"), inbox)
    dropped.chmod(0)

    closed = subprocess.run(
        [*powerless, *site.command("run", "--lanes", "1")],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lying = lying_in(inbox)
    dropped.chmod(0o644)
    opened = site.call("run", "--lanes", "1")

    assert (closed.returncode, lying) == (1, ["W1.bag.zip"]), closed.stderr
    assert lines(closed.stderr, str(dropped), "cannot be read: Permission denied")
    assert opened.returncode == 0, opened.stderr
    assert lying_in(inbox) == ["done/W1.bag.zip"]
