"""What an operator may do wrong around a command: each slip is told in a line, with what to do, without a traceback."""

import subprocess
from pathlib import Path

import pytest

from tests.line.test_full_disk import small_disk
from tests.world.bags import bag_members, make_bag_zip, write_zip
from tests.world.stack import Site, lines


def shell(site: Site, line: str, *, cwd: Path | None = None, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A line of a shell, in which `$RUN` is `run_pipeline.py`."""
    return subprocess.run(
        ["bash", "-c", line],
        env={**site.environment, "RUN": " ".join(site.command()), **settings},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("line", ["$RUN status >&-", "$RUN status <&- >&- 2>&-", "$RUN run --lanes 1 >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_failure(site: Site, line: str) -> None:
    ended = shell(site, line)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["status", "status --json", "report --csv", "completion bash"])
def test_output_that_finds_no_room_is_told_in_a_line(site: Site, verb: str) -> None:
    ended = shell(site, f"$RUN {verb} >/dev/full")

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert lines(ended.stderr, "could not be written: No space left on device")


@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_the_exit_status_is_the_same_where_nothing_can_be_complained_to(site: Site, stderr: str) -> None:
    assert shell(site, f"$RUN explain W4711 2>{stderr}").returncode == 2


def test_a_report_that_finds_no_room_is_not_half_written(site: Site, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        (disk / "fill").write_bytes(b"x" * 4096)
        ended = site.call("report", "--csv", str(disk / "works.csv"))
        left = (disk / "works.csv").exists()

    assert (ended.returncode, left) == (2, False)
    assert lines(ended.stderr, "works.csv: No space left on device")


def test_a_report_is_written_into_a_pipe_and_through_a_link_and_replaces_neither(site: Site, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "works.csv")
    piped = shell(
        site, 'mkfifo pipe; timeout 60 cat pipe & $RUN report --csv pipe; told=$?; wait; exit "$told"', cwd=tmp_path
    )
    linked = site.call("report", "--csv", str(tmp_path / "link.csv"))

    assert (piped.returncode, linked.returncode) == (0, 0), (piped.stderr, linked.stderr)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link.csv").is_symlink()
    assert piped.stdout == (tmp_path / "works.csv").read_bytes().decode().replace("\r\n", "\n") != ""


def test_works_come_home_though_the_disk_with_the_logs_is_full(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    with small_disk(tmp_path / "disk", 4096) as disk:
        (disk / "fill").write_bytes(b"x" * 4096)
        ended = site.call("work", "W1", PIPELINE_PIPELINE_LOGS=str(disk))
        ended_run = site.call("run", "--lanes", "1", PIPELINE_PIPELINE_LOGS=str(disk))

    assert ended_run.returncode in {0, 1}, ended_run.stderr  # 1: the sync's own log has no room either
    for stderr in (ended.stderr, ended_run.stderr):
        assert "Traceback" not in stderr
        assert lines(stderr, "No space left on device")


@pytest.mark.parametrize("verb", ["run", "work W1", "verify W1"])
def test_a_folder_for_logs_that_cannot_be_made_is_a_wrong_setting(site: Site, verb: str) -> None:
    ended = site.call(*verb.split(), PIPELINE_PIPELINE_LOGS="/proc/logs")

    assert ended.returncode == 2
    assert lines(ended.stderr, "[pipeline] logs", "/proc/logs")


@pytest.mark.parametrize("log", ["prepare", "lane-1"])
def test_a_log_that_cannot_be_opened_is_told_in_a_line_and_no_lane_begins(site: Site, tmp_path: Path, log: str) -> None:
    (site.home / "logs" / f"{log}.log").mkdir(parents=True)
    site.announce(make_bag_zip(tmp_path, "W1"))

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert len(lines(ended.stderr, "[pipeline] logs", "Is a directory", f"{log}.log")) == 1
    assert site.depth() == 1


def test_a_port_of_the_database_that_is_no_number_is_a_wrong_setting(site: Site) -> None:
    ended = site.call("status", PIPELINE_DATABASE_URL="postgresql+psycopg://u:hunter2@127.0.0.1:port/works")

    assert ended.returncode == 2
    assert lines(ended.stderr, "[database] url is not an SQLAlchemy URL")
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://u:hunter2@127.0.0.1:1/x?charset=bad",
        "mysql+pymysql://u:hunter2@127.0.0.1:1/x?connect_timeout=soon",
        "mysql+pymysql://u:hunter2@127.0.0.1:1/x?nonsense=hunter2",
        "mysql+pymysql://u:hunter2@127.0.0.1:1/x?ssl_ca=/nowhere",
        "postgresql+psycopg://u:hunter2@/x?host=a&host=b&port=c",
        "sqlite:////nowhere/x.db?timeout=hunter2",
    ],
)
def test_an_option_of_the_url_that_its_driver_does_not_take_is_a_wrong_setting(site: Site, url: str) -> None:
    ended = site.call("db", "status", PIPELINE_DATABASE_URL=url)

    assert ended.returncode == 2, ended.stderr
    assert lines(ended.stderr, "[database] url: its driver does not take it")
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("verb", ["status", "run", "db status", "explain W1"])
def test_a_file_that_is_no_database_is_one_that_does_not_answer(site: Site, tmp_path: Path, verb: str) -> None:
    (tmp_path / "notes.txt").write_text("no database at all\n" * 100)

    ended = site.call(*verb.split(), PIPELINE_DATABASE_URL=f"sqlite:///{tmp_path}/notes.txt")

    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert lines(ended.stderr, "the progress database does not answer: file is not a database")


@pytest.mark.parametrize(
    "text", [b"lanes = 2\n", b"[pipeline]\nlanes = 2\nlanes = 3\n", "[pipeline]\n# für\n".encode("latin-1")]
)
def test_a_luigi_cfg_that_cannot_be_parsed_is_told_in_a_line(site: Site, text: bytes) -> None:
    (site.home / "luigi.cfg").write_bytes(text)

    ended = site.call_anew("status")  # Luigi reads it while it is imported

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert lines(ended.stderr, "luigi.cfg is not understood")

    (site.home / "own.cfg").touch()
    below = {"PIPELINE_BASE_CONFIG": str(site.home / "luigi.cfg"), "LUIGI_CONFIG_PATH": str(site.home / "own.cfg")}
    ended = site.call("status", **below)

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert lines(ended.stderr, "PIPELINE_BASE_CONFIG names", "not understood")


def test_a_luigi_cfg_that_is_not_there_is_not_taken_for_an_empty_one(site: Site) -> None:
    ended = site.call("status", LUIGI_CONFIG_PATH="/nowhere/luigi.cfg")

    assert ended.returncode == 2
    assert lines(ended.stderr, "LUIGI_CONFIG_PATH names /nowhere/luigi.cfg: No such file or directory")
    assert "Warning" not in ended.stderr


def test_the_luigi_cfg_of_the_folder_one_happens_to_be_in_is_not_read(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "luigi.cfg"
    other.write_text("[source other]\nregion = us-east-1\nbucket = other\nqueue = Other\n[pipeline]\nlanes = 0\n")

    ended = shell(site, "$RUN status", cwd=tmp_path)
    asked_for = shell(site, "$RUN check", cwd=tmp_path, PIPELINE_BASE_CONFIG=str(other), PIPELINE_PIPELINE_LANES="1")

    assert ended.returncode == 0, ended.stderr
    assert "Other" not in ended.stdout
    assert lines(asked_for.stdout, "queue Other")


@pytest.mark.parametrize("verb", ["status", "explain", "log", "retry", "work", "verify"])
def test_a_rid_in_small_letters_is_answered_with_the_one_that_is_known(site: Site, tmp_path: Path, verb: str) -> None:
    site.announce(make_bag_zip(tmp_path, "W1ABC"))
    assert site.call("run", "--lanes", "1").returncode == 0

    ended = site.call(verb, "w1abc")

    assert ended.returncode == 2
    assert lines(ended.stderr, "w1abc", "it knows W1ABC")


def test_a_misspelt_rid_is_no_lost_work(site: Site) -> None:
    ended = site.call("verify", "W4711")

    assert ended.returncode == 2
    assert lines(ended.stderr, "W4711: not archived: the record knows no such work")
    assert site.rows("events") == []


def test_a_luigi_cfg_that_leaves_luigis_own_sections_out_has_failures_told_in_a_line_all_the_same(
    site: Site, tmp_path: Path
) -> None:
    own = (site.home / "luigi.cfg").read_text(encoding="utf-8").partition("[core]")[0]
    (site.home / "luigi.cfg").write_text(f"{own}[core]\ndefault_scheduler_url = {site.luigid_url}\n", encoding="utf-8")
    members = bag_members("W1")
    image = next(name for name in members if "/data/" in name)
    site.announce(write_zip(tmp_path / "W1.bag.zip", {**members, image: b"!"}))

    ended = site.call_anew("run", "--lanes", "1")

    assert ended.returncode == 1
    assert lines(ended.stderr, "W1: the bag is refused")
    assert "Traceback" not in ended.stderr


def test_two_sources_on_one_queue_are_refused(site: Site) -> None:
    add_source(site, "again", queue=site.queue)
    add_source(site, "elsewhere", queue=site.queue, region="eu-west-1")
    add_source(site, "address", queue=site.queue_url)

    ended = site.call("run")

    assert ended.returncode == 2
    assert lines(ended.stderr, "[source again] queue is that of [source test] too")
    assert lines(ended.stderr, "[source address] queue is that of [source test] too")
    assert not lines(ended.stderr, "[source elsewhere]")


def test_two_names_of_one_queue_are_found_out_by_check(site: Site) -> None:
    """Where the settings alone do not tell: two profiles may be of one account."""
    credentials = site.home / "credentials"
    credentials.write_text("[second]\naws_access_key_id = testing\naws_secret_access_key = testing\n", encoding="utf-8")
    add_source(site, "again", queue=site.queue, profile="second")

    checked = site.call("check", AWS_SHARED_CREDENTIALS_FILE=str(credentials))

    assert checked.returncode == 3
    assert lines(checked.stdout, "wrong", "is the queue of [source test] too")


def add_source(site: Site, name: str, *, queue: str, region: str = "us-east-1", profile: str = "") -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as settings:
        settings.write(f"[source {name}]\nregion = {region}\nbucket = {site.bucket}\nqueue = {queue}\n")
        settings.write(f"endpoint_url = {site.moto_url}\nprofile = {profile}\n")
