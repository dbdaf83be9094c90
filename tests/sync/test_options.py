"""Sync options: what a site's file says, and how little a bag's own file can do."""

from pathlib import Path

import pytest

from pipeline.foundation.errors import OptionsNotUnderstood
from pipeline.sync import narrowing
from pipeline.sync.narrowing import BUILT_IN, SyncOptions
from pipeline.sync.options_file import LIMIT_BYTES


def of_site(folder: Path, text: str) -> SyncOptions:
    (folder / "site-sync.yml").write_text(text)
    return narrowing.of_site(folder / "site-sync.yml")


def of_work(folder: Path, text: str | bytes, site: SyncOptions = BUILT_IN) -> SyncOptions:
    (folder / "W1/config").mkdir(parents=True, exist_ok=True)
    (folder / "W1/config/sync.yml").write_bytes(text.encode() if isinstance(text, str) else text)
    return narrowing.of_work(folder / "W1", work_rid="W1", site=site)


def test_without_any_file_the_options_are_those_built_in(tmp_path: Path) -> None:
    site = narrowing.of_site(tmp_path / "none.yml")
    assert narrowing.of_work(tmp_path, work_rid="W1", site=site) == SyncOptions() == BUILT_IN
    assert BUILT_IN.environment() == {}
    assert BUILT_IN.arguments(archive_parent="/mnt/Archive", web_parent="s3://web") == [
        *("-a", "/mnt/Archive"),
        *("-w", "s3://web"),
    ]


def test_a_sites_file_is_merged_over_what_is_built_in(tmp_path: Path) -> None:
    found = of_site(tmp_path, "audit: {pre: ['-T', 'A,B'], post: [['-D x=1'], '-T', C]}\nsync:\n  update_web: no\n")
    assert (found.archive, found.web, found.update_web) == (True, True, False)
    assert found.environment() == {
        "LOCAL_AUDIT_OPTIONS": "-T A,B",
        "REPO_AUDIT_OPTIONS": "-D x=1 -T C",
        "NO_REFRESH_WEB": "Yes",
    }
    assert found.source == str(tmp_path / "site-sync.yml")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "sync:\naudit:\n", "---\n"])
def test_an_empty_file_changes_nothing(tmp_path: Path, text: str) -> None:
    assert of_work(tmp_path, text).facts() == {**BUILT_IN.facts(), "from": "built in, narrowed by config/sync.yml"}


def test_a_work_can_refuse_the_web_copy_and_its_refresh(tmp_path: Path) -> None:
    found = of_work(tmp_path, "sync: {web: false, update_web: false}")
    assert found.arguments(archive_parent="/a", web_parent="s3://web") == ["-a", "/a"]
    assert found.environment() == {"NO_REFRESH_WEB": "Yes"}
    assert found.not_granted == ()


def test_a_work_can_turn_on_nothing_that_the_site_has_off(tmp_path: Path) -> None:
    site = SyncOptions(web=False, update_web=False)
    found = of_work(tmp_path, "sync: {archive: true, web: true, update_web: true, replace: true}", site)
    assert (found.web, found.update_web) == (False, False)
    assert [text.partition(":")[0] for text in found.not_granted] == ["sync.web", "sync.update_web", "sync.replace"]
    arguments = found.arguments(archive_parent="/a", web_parent="s3://web")
    assert arguments == ["-a", "/a"]


@pytest.mark.parametrize(
    ("had", "asked", "granted"),
    [
        ("", "['-T', 'A,B']", "-T A,B"),
        ("", "['-T A']", "-T A"),
        ("-D x=1 -T A,B,C -v", "['-T', 'B,A']", "-D x=1 -T B,A -v"),
        ("-D x=1", "[-T, B]", "-D x=1 -T B"),
        ("-T A,B", "[]", "-T A,B"),
    ],
)
def test_a_work_can_choose_fewer_tests(tmp_path: Path, had: str, asked: str, granted: str) -> None:
    found = of_work(tmp_path, f"audit: {{pre: {asked}}}", SyncOptions(audit_pre=tuple(had.split())))
    assert " ".join(found.audit_pre) == granted
    assert found.not_granted == ()


@pytest.mark.parametrize(
    "asked",
    [
        "['-l', /tmp/elsewhere]",
        "['-D', 'a=b']",
        "['-T', 'A', '-l', '/x']",
        "['-T', '$(id)']",
        "['-T', '*']",
        "['-T', '-l']",
        "['-T']",
        "[A]",
        "['-T', 'C']",
    ],
)
def test_a_work_puts_nothing_else_on_the_audit_tools_command_line(tmp_path: Path, asked: str) -> None:
    site = SyncOptions(audit_pre=("-T", "A,B"), audit_post=("-D", "x=1", "-T", "A,B"))
    found = of_work(tmp_path, f"audit: {{pre: {asked}, post: {asked}}}", site)
    assert (found.audit_pre, found.audit_post) == (site.audit_pre, site.audit_post)
    assert [text.partition(":")[0] for text in found.not_granted] == ["audit.pre", "audit.post"]


def test_of_the_tests_asked_for_only_those_of_the_site_are_run(tmp_path: Path) -> None:
    found = of_work(tmp_path, "audit: {post: ['-T', 'B,Z']}", SyncOptions(audit_post=("-T", "A,B")))
    assert found.audit_post == ("-T", "B")
    assert "does not run Z" in found.not_granted[0]


WRONG: dict[str, tuple[str | bytes, str]] = {
    "an unknown key": ("sync: {webb: false}", "sync.'webb' is unknown"),
    "an unknown section": ("synk: {web: false}", "'synk' is unknown"),
    "a number for a switch": ("sync: {web: 0}", "sync.web is 0, not true or false"),
    "a quoted switch": ("sync: {web: 'false'}", "sync.web is 'false', not true or false"),
    "an empty switch": ("sync: {web: }", "sync.web is None"),
    "a text for a list": ("audit: {pre: '-T A'}", "audit.pre is '-T A', not a list of texts"),
    "a number in a list": ("audit: {pre: [1]}", "audit.pre is [1]"),
    "a line end in an option": ('audit: {pre: ["-T\\nA"]}', "audit.pre is"),
    "a list for all": ("[a]", "no mapping"),
    "a text for a section": ("sync: web", "sync is 'web', not a mapping"),
    "a key twice": ("sync: {web: false, web: true}", "line 1: 'web' stands twice"),
    "a section twice": ("sync: {web: false}\nsync: {}", "line 2: 'sync' stands twice"),
    "no YAML": ("sync: {web", "line 1: "),
    "a tag of its own": ("sync: !!python/object/apply:os.system ['touch pwned']", "a tag is not wanted"),
    "a key that is a list": ("? [a]\n: b", "is no YAML"),
    "bytes that are no text": (b"sync: \xff\xfe", "is no YAML"),
    "an alias": ("a: &a [x]\nb: *a", "line 2: an alias"),
    "a merged alias": ("a: &a {web: true}\nsync:\n  <<: *a", "line 3: an alias"),
    "a date that there is not": ("sync: {web: 2001-99-99}", "is no YAML"),
    "a bomb": ("a: &a [x,x]\n" + "".join(f"k{n}: &k{n} [*a,*a]\n" for n in range(99)), "an alias"),
    "depth": ("[" * 5000, "nested too deeply"),
    "depth of mappings": ("{a: " * 4000, "nested too deeply"),
    "a date by its tag": ("sync: {web: !!timestamp x}", "a tag is not wanted"),
    "a number beyond all numbers": (f"sync: {{web: {'1:' * 300}1.5}}", "no YAML"),
    "a number of many digits": (f"sync: {{web: 0b{'1' * 15_000}}}", "a word of 15002 letters"),
    "size": ("#" * (LIMIT_BYTES + 1), "more than"),
}


@pytest.mark.parametrize("case", WRONG, ids=lambda name: name)
def test_what_is_not_understood_stops_the_work_and_is_named(tmp_path: Path, case: str) -> None:
    text, named = WRONG[case]
    with pytest.raises(OptionsNotUnderstood) as caught:
        of_work(tmp_path, text)
    assert named in str(caught.value)
    assert "config/sync.yml" in str(caught.value)
    assert "PIPELINE_SYNC_WORK_OPTIONS=ignore run_pipeline.py work W1" in str(caught.value)
    assert not (Path.cwd() / "pwned").exists()


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionsNotUnderstood) as caught:
        of_site(tmp_path, "sync: {a: 1, web: 2}\naudit: {pre: 3}\nother: 4\n")
    problems = caught.value.facts["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 4


@pytest.mark.parametrize("text", ["sync: {replace: true}", "sync: {archive: false}"])
def test_a_site_can_neither_replace_in_passing_nor_do_without_the_archive(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionsNotUnderstood, match=r"site-sync\.yml"):
        of_site(tmp_path, text)


def test_a_sites_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "site-sync.yml").mkdir()
    with pytest.raises(OptionsNotUnderstood, match=r"site-sync\.yml"):
        narrowing.of_site(tmp_path / "site-sync.yml")
