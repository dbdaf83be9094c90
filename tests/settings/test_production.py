"""One switch, PIPELINE_ENV: production refuses settings of demos and of development, all of them at once, by name."""

from pathlib import Path

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines

# A mount point that every Linux has; nothing gets as far as writing to it.
MOUNTED = "/proc"
NO_DATABASE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"


def test_production_names_every_demo_setting_at_once_and_touches_nothing(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    refused = site.call("run", PIPELINE_ENV="prod", AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")

    assert refused.returncode == 2
    assert lines(refused.stderr, "[database] url is SQLite")
    assert lines(refused.stderr, "[source test] endpoint_url leads to 127.0.0.1")
    assert lines(refused.stderr, f"[pipeline] archive_root {site.home}/archive is not mounted", "Archive0", "Archive3")
    assert lines(refused.stderr, "AWS_ACCESS_KEY_ID")
    assert lines(refused.stderr, "AWS_ENDPOINT_URL_S3")
    assert lines(refused.stderr, "nothing was started")
    assert site.depth() == 1
    assert not (site.home / "logs").exists()
    assert site.call("run").returncode == 0  # the same settings, in development
    assert site.archived("W1") == SMALL_WORK


def test_production_with_its_own_settings_starts(site: Site) -> None:
    started = site.call(
        "run",
        PIPELINE_ENV="prod",
        AWS_ACCESS_KEY_ID="another",
        PIPELINE_DATABASE_URL=NO_DATABASE,
        PIPELINE_SOURCE_TEST_ENDPOINT_URL="",
        PIPELINE_PIPELINE_ARCHIVE_ROOT=MOUNTED,
    )

    assert started.returncode == 3, started.stderr  # only then is the database asked, and there is none
    assert lines(started.stderr, "the progress database does not answer")


def test_production_has_no_default_database_and_its_archive_is_mnt(site: Site) -> None:
    settings = (site.home / "luigi.cfg").read_text().splitlines()
    kept = [line for line in settings if not line.startswith(("url =", "archive_root ="))]
    (site.home / "luigi.cfg").write_text("\n".join(kept))

    refused = site.call("run", PIPELINE_ENV="prod")

    assert refused.returncode == 2
    assert lines(refused.stderr, "[database] url, url_file or db_config is missing")
    assert lines(refused.stderr, "[pipeline] archive_root /mnt")


def test_a_database_that_is_set_wrongly_is_not_called_missing(site: Site) -> None:
    refused = site.call("run", PIPELINE_ENV="prod", PIPELINE_DATABASE_URL="nonsense")

    assert lines(refused.stderr, "[database] url is not an SQLAlchemy URL")
    assert lines(refused.stderr, "[source test] endpoint_url")
    assert not lines(refused.stderr, "is missing")


def test_production_archives_nothing_in_its_own_folder(site: Site) -> None:
    refused = site.call("work", "W1", PIPELINE_ENV="prod", PIPELINE_PIPELINE_ARCHIVE_ROOT="var/archive")

    assert refused.returncode == 2
    assert lines(refused.stderr, "in this program's own folder")


def test_an_archive_that_is_away_keeps_nobody_from_looking(site: Site) -> None:
    settings = {
        "PIPELINE_ENV": "prod",
        "AWS_ACCESS_KEY_ID": "another",
        "PIPELINE_DATABASE_URL": NO_DATABASE,
        "PIPELINE_SOURCE_TEST_ENDPOINT_URL": "",
        "PIPELINE_PIPELINE_ARCHIVE_ROOT": f"{site.home}/unmounted",
    }

    assert site.call("status", **settings).returncode == 3  # it is the database that is asked, not the archive
    assert lines(site.call("work", "W1", **settings).stderr, "is not there; is it mounted?")


def test_where_a_marker_is_set_an_archive_without_any_is_not_mounted(site: Site) -> None:
    settings = {"PIPELINE_ENV": "prod", "PIPELINE_SYNC_MOUNT_MARKER": ".mounted"}

    bare = site.call("run", **settings)
    (site.home / "archive" / "Archive2").mkdir()
    (site.home / "archive" / "Archive2" / ".mounted").touch()
    mounted = site.call("run", **settings)

    assert lines(bare.stderr, f"[sync] mount_marker: no share of {site.home}/archive has .mounted")
    assert lines(mounted.stderr, "[database] url is SQLite")
    assert not lines(mounted.stderr, "is it mounted?")
