"""What a sync does with its options: a bag's own file can keep things from happening, and make nothing happen."""

import shutil
from pathlib import Path

import pytest

from pipeline.foundation.errors import ArchiveConflict, AuditFailed, NotToBeArchived, OptionsNotUnderstood, SyncFailed
from pipeline.sync import SyncOptions
from pipeline.sync.site import BUILTIN, SCRIPT
from tests.sync.test_running import alive, eventually
from tests.world.bags import SMALL_WORK
from tests.world.works import COREUTILS, Home, contents, put

IMAGE = "images/I1/I10001.jpg"
RECORDS = 'printf "%s\\n" "$*" >> "{file}"'
WEB = "s3://web/Works"


class Tools:
    """A PATH for the sync script: coreutils, and programs of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tools"
        self.folder.mkdir()
        self.calls = folder / "calls"
        for name in ("bash", "timeout", "sleep", *COREUTILS):
            (self.folder / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(f"#!{shutil.which('bash')}\n{text or RECORDS.format(file=self.calls)}\n")
        (self.folder / name).chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


def with_options(text: str) -> dict[str, bytes]:
    return {**SMALL_WORK, "config/sync.yml": text.encode()}


def test_a_payload_that_asks_for_replacement_overwrites_nothing_in_the_archive(home: Home) -> None:
    files = with_options("sync: {archive: true, replace: true, web: true}")
    home.stage(files=files)
    there = {IMAGE: b"what the library has", "notes.txt": b"of the archivist"}
    copy = put(home.root / "Archive0/00/W1", there)
    with pytest.raises(ArchiveConflict):
        home.archive()
    assert contents(copy) == there


def test_a_payload_that_asks_for_replacement_takes_nothing_away_where_it_only_adds(home: Home) -> None:
    files = with_options("sync: {replace: true}")
    home.stage(files=files)
    put(home.root / "Archive0/00/W1", {"notes.txt": b"of the archivist"})
    synced = home.archive()
    assert contents(synced.path) == {**files, "notes.txt": b"of the archivist"}
    assert synced.options.not_granted == ("sync.replace: true (a bag replaces nothing in the archive)",)


def test_a_payload_that_wants_no_web_copy_gets_none(home: Home, tools: Tools) -> None:
    tools.add("aws")
    home.stage(files=with_options("sync: {web: false}"))
    home.archive(site=home.site(web_parent=WEB, path=str(tools.folder)))
    assert tools.called() == []


def test_update_web_false_leaves_the_web_copy_as_it_is(home: Home, tools: Tools) -> None:
    tools.add("aws")
    home.stage(files=with_options("sync: {update_web: false}"))
    synced = home.archive(site=home.site(web_parent=WEB, path=str(tools.folder)))
    assert tools.called() == []
    assert synced.log is not None
    assert "NO_REFRESH_WEB is set" in synced.log.read_text()


def test_a_payload_cannot_publish_what_the_site_does_not(home: Home, tools: Tools) -> None:
    tools.add("aws")
    home.stage(files=with_options("sync: {web: true, update_web: true}"))
    site = home.site(web_parent=WEB, path=str(tools.folder), options=SyncOptions(web=False, update_web=False))
    synced = home.archive(site=site)
    assert tools.called() == []
    assert len(synced.options.not_granted) == 2


def test_a_payload_that_is_not_to_be_archived_is_not_home(home: Home) -> None:
    home.stage(files=with_options("sync: {archive: false}"))
    with pytest.raises(NotToBeArchived) as caught:
        home.archive()
    assert not (home.root / "Archive0").exists()
    assert "PIPELINE_SYNC_WORK_OPTIONS=ignore run_pipeline.py work W1" in str(caught.value)
    assert home.archive(site=home.site(heed_works=False)).added == 4
    assert home.archive().written is False


def test_a_payload_that_is_not_to_be_archived_is_not_archived_by_an_operator_s_replace_either(home: Home) -> None:
    home.stage(files=with_options("sync: {archive: false}"))
    copy = put(home.root / "Archive0/00/W1", {IMAGE: b"what the library has"})
    with pytest.raises(ArchiveConflict):
        home.archive(replace=True)
    assert contents(home.root) == {f"Archive0/00/W1/{IMAGE}": b"what the library has"}
    assert copy.exists()


def test_options_that_are_not_understood_stop_a_work_before_anything_is_written(home: Home) -> None:
    home.stage(files=with_options("sync: {webb: false}"))
    with pytest.raises(OptionsNotUnderstood, match="'webb' is unknown"):
        home.archive()
    assert list(home.root.iterdir()) == []
    assert home.archive(site=home.site(heed_works=False)).options == SyncOptions()


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_the_audit_tool_gets_the_options_and_its_success_is_recorded(home: Home, tools: Tools, copier: str) -> None:
    tools.add("audit-tool")
    work = home.stage(files=with_options("audit: {post: ['-T', 'A']}"))
    options = SyncOptions(audit_pre=("-T", "X,Y"), audit_post=("-D", "p=1", "-T", "A,B"))
    synced = home.archive(site=home.site(copier=copier, path=str(tools.folder), options=options))
    before, after = tools.called()
    assert before.endswith(f" -T X,Y {work}")
    assert after.endswith(f" -D p=1 -T A {synced.path}")
    assert synced.audits == {"pre": "passed", "post": "passed"}
    assert synced.log is not None
    assert not (synced.log.parent / "audits.txt").exists()


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_a_sync_that_is_asked_for_again_audits_again_and_copies_nothing(home: Home, tools: Tools, copier: str) -> None:
    tools.add("audit-tool")
    home.stage()
    site = home.site(copier=copier, path=str(tools.folder))
    first = home.archive(site=site)
    before = {path: path.stat().st_ctime_ns for path in first.path.rglob("*")}
    assert home.archive(site=site).log is None
    synced = home.archive(site=site, again=True)
    assert (synced.written, synced.audits) == (False, {"pre": "passed", "post": "passed"})
    assert len(tools.called()) == 4
    assert before == {path: path.stat().st_ctime_ns for path in first.path.rglob("*")}


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_an_absent_audit_tool_is_recorded_as_not_run(home: Home, tools: Tools, copier: str) -> None:
    home.stage()
    synced = home.archive(site=home.site(copier=copier, path=str(tools.folder)))
    assert set(synced.audits.values()) == {"not run: audit-tool is not installed"}


def test_of_an_own_script_nothing_is_claimed(home: Home, tools: Tools) -> None:
    tools.add("audit-tool")
    home.stage()
    script = 'mkdir -p "${2}0/00" && cp -R "${!#}" "${2}0/00/"'
    synced = home.archive(site=home.site(script=script, path=str(tools.folder)))
    assert set(synced.audits.values()) == {"left to the script"}


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_nothing_to_copy_is_nothing_to_audit(home: Home, copier: str) -> None:
    home.stage()
    home.archive(site=home.site(copier=copier))
    assert set(home.archive(site=home.site(copier=copier)).audits.values()) == {"not run: nothing was to be copied"}


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_a_test_that_fails_before_the_copy_is_a_permanent_failure_and_nothing_is_written(
    home: Home, tools: Tools, copier: str
) -> None:
    tools.add("audit-tool", "echo I1 has no page 7; exit 1")
    home.stage()
    with pytest.raises(AuditFailed) as caught:
        home.archive(site=home.site(copier=copier, path=str(tools.folder)))
    assert not (home.root / "Archive0/00/W1").exists()
    assert caught.value.facts["audits"] == {"pre": "failed", "post": "not run: the sync ended before it"}
    assert "the pre audit failed" in str(caught.value)
    assert "I1 has no page 7" in str(caught.value)
    assert "nothing was written" in caught.value.kept
    assert "partial" not in caught.value.kept


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_a_test_that_fails_after_the_copy_is_not_forgotten_at_the_next_attempt(
    home: Home, tools: Tools, copier: str
) -> None:
    tools.add("audit-tool", '[[ "${!#}" != *Archive0* ]]')
    home.stage()
    site = home.site(copier=copier, path=str(tools.folder))
    for _ in range(2):
        with pytest.raises(AuditFailed) as caught:
            home.archive(site=site)
        assert caught.value.facts["audits"] == {"pre": "passed", "post": "failed"}
    tools.add("audit-tool", "exit 0")
    assert home.archive(site=site).audits == {"pre": "passed", "post": "passed"}


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_an_audit_tool_that_breaks_off_may_do_better_next_time(home: Home, tools: Tools, copier: str) -> None:
    tools.add("audit-tool", "exit 3")
    home.stage()
    with pytest.raises(SyncFailed) as caught:
        home.archive(site=home.site(copier=copier, path=str(tools.folder)))
    assert caught.value.facts["audits"] == {
        "pre": "broke off: exit status 3",
        "post": "not run: the sync ended before it",
    }


@pytest.mark.parametrize("copier", [SCRIPT, BUILTIN])
def test_an_audit_tool_that_hangs_is_ended_with_its_children_when_its_time_is_up(
    home: Home, tools: Tools, copier: str
) -> None:
    tools.add("audit-tool", f"sleep 300 & echo $! > '{home.folder}/child'; wait")
    home.stage()
    with pytest.raises(SyncFailed) as caught:
        home.archive(site=home.site(copier=copier, path=str(tools.folder), audit_limit_seconds=1))
    audits = caught.value.facts["audits"]
    assert isinstance(audits, dict)
    assert audits["pre"] == "timed out: after 1 s"
    child = int((home.folder / "child").read_text())
    assert eventually(lambda: not alive(child))
