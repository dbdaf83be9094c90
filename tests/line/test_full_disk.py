"""A disk that fills up in the middle of a step: nothing half-done is left, and the reason is named."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.world.bags import make_bag_zip
from tests.world.disks import mounted
from tests.world.stack import Site

PAYLOAD = {f"images/I1/{number:03d}.jpg": os.urandom(100_000) for number in range(20)}
QUICK = {"PIPELINE_QUEUE_BACKOFF_SECONDS": "0", "PIPELINE_PIPELINE_MARGIN_BYTES": "0"}


def small_disk(folder: Path, size_bytes: int, *, files: int = 0) -> AbstractContextManager[Path]:
    """So large and no larger; and for so many files and folders, if that is told."""
    return mounted(folder, "tmpfs", f"size={size_bytes},nr_inodes={files},mode=755")


@pytest.mark.parametrize(
    ("step", "files", "left"),
    [("download", 3, []), ("debag", 12, ["W1.bag.zip", "W1.bag.zip.journal", "download.json"])],
)
def test_a_staging_disk_that_fills_up_leaves_no_half_step_and_names_the_reason(
    site: Site, tmp_path: Path, step: str, files: int, left: list[str]
) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1", files=PAYLOAD)
    site.announce(bag_zip)
    with small_disk(tmp_path / "disk", 100 * bag_zip.stat().st_size, files=files) as disk:  # room enough, it says
        full = site.call("run", "--lanes", "1", PIPELINE_PIPELINE_STAGING=str(disk), **QUICK)
        found = sorted(path.name for path in disk.rglob("*") if path.is_file())
        history = [(row["step"], row["outcome"]) for row in site.rows("events")]

    assert full.returncode == 1, full.stderr
    assert found == left
    assert history[-1] == (step, "failed")
    assert site.works()["W1"].error_kind == "no-room"
    again = site.call("run", "--lanes", "1", **QUICK)
    assert again.returncode == 0, again.stderr
    assert site.archived("W1") == PAYLOAD


def test_an_archive_disk_that_fills_up_is_named_and_the_sync_goes_on_when_there_is_room(
    site: Site, tmp_path: Path
) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1", files=PAYLOAD)
    site.announce(bag_zip)
    with small_disk(tmp_path / "disk", bag_zip.stat().st_size // 2) as disk:
        full = site.call("run", "--lanes", "1", PIPELINE_PIPELINE_ARCHIVE_ROOT=str(disk), **QUICK)
        visible = list(disk.glob("Archive*/*/W1/**/*.jpg"))

    assert full.returncode == 1
    assert site.works()["W1"].error_kind in {"no-room", "sync-failed"}
    assert "space" in site.works()["W1"].error
    assert visible == []
    assert site.rows("syncs") == []
    again = site.call("run", "--lanes", "1", **QUICK)
    assert again.returncode == 0, again.stderr
    assert site.archived("W1") == PAYLOAD


def test_what_works_in_progress_have_yet_to_write_is_reserved(site: Site, tmp_path: Path) -> None:
    """Room for one work, not for two at once: the second waits instead of making both fail."""
    script = tmp_path / "slow.sh"
    script.write_text(
        f"touch {tmp_path}/begun\nuntil [ -e {tmp_path}/go ]; do sleep 0.1; done\n"
        f'exec bash {Path.cwd()}/bin/syncOneWork.sh "$@"\n',
        encoding="utf-8",
    )
    first, second = make_bag_zip(tmp_path, "W1", files=PAYLOAD), make_bag_zip(tmp_path, "W2", files=PAYLOAD)
    with small_disk(tmp_path / "disk", int(first.stat().st_size * 3)) as disk:
        settings = {"PIPELINE_PIPELINE_STAGING": str(disk), "PIPELINE_SYNC_SCRIPT": str(script), **QUICK}
        site.announce(first)
        holder = site.start("run", "--lanes", "1", **settings)
        try:
            while not (tmp_path / "begun").exists():
                assert holder.poll() is None
            site.announce(second)
            waiting = site.call("run", "--lanes", "1", **settings)
            reason = site.works()["W2"].error  # before the first run, once it is free, takes this work up too
            (tmp_path / "go").touch()
            _, err = holder.communicate(timeout=60)
        finally:
            holder.kill()
        free = shutil.disk_usage(disk).free
        later = site.call("run", "--lanes", "1", **settings)

    assert (waiting.returncode, holder.returncode, later.returncode) == (1, 0, 0), err
    assert "needed (zip, payload and margin)" in reason
    assert free > first.stat().st_size * 2
    assert site.archived("W2") == PAYLOAD
