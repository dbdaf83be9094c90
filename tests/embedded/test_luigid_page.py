"""luigid's page, as a person sees it: running works with how far they are, failures with what to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.world import browser
from tests.world.bags import make_bag_zip
from tests.world.stack import Site, wait_until


def tasks(site: Site, status: str) -> list[dict[str, Any]]:
    """The tasks of this test's works that luigid lists."""
    listed = site.ask_luigid("task_list", status=status, upstream_status="")
    return [{"task_id": name, **task} for name, task in listed.items()]


def test_a_running_work_is_shown_with_its_rid_first_and_how_far_it_is(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W8RUNNING"))
    script = tmp_path / "slow.sh"
    script.write_text("sleep 60 & wait\n", encoding="utf-8")
    run = site.start("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    try:
        wait_until(lambda: any(_message(task) for task in tasks(site, "RUNNING")), seconds=30, every=0.5)
        (running,) = (task for task in tasks(site, "RUNNING") if _message(task))
    finally:
        run.terminate()
        run.communicate(timeout=30)

    assert running["name"] == "Sync"
    assert next(iter(running["params"])) == "work_rid"
    assert running["status_message"].startswith("W8RUNNING: syncing: ")
    assert running["progress_percentage"] == 0


def test_a_failed_work_s_page_names_the_failure_and_the_command_to_go_on_and_no_secret(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W8FAILED"))
    script = tmp_path / "bad.sh"
    script.write_text("exit 12\n", encoding="utf-8")

    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script), AWS_SECRET_ACCESS_KEY="hush-hush")

    (task,) = (task for task in tasks(site, "FAILED") if task["params"].get("work_rid") == "W8FAILED")
    error = site.ask_luigid("fetch_error", task_id=task["task_id"])["error"]
    assert "W8FAILED: the sync script exited 12" in error
    assert "go on with" in error
    assert "run_pipeline.py work W8FAILED" in error
    assert "Traceback" not in error
    assert "hush-hush" not in error


@pytest.mark.skipif(browser.installed() is None, reason="Debian's chromium is not installed")
def test_in_a_browser_the_failure_is_a_click_away(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W8CLICK"))
    script = tmp_path / "bad.sh"
    script.write_text("exit 12\n", encoding="utf-8")
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))

    with browser.browser() as page:
        page.open(f"{site.luigid_url}/static/visualiser/index.html#search__search=W8CLICK")
        wait_until(lambda: page.ask("!!document.querySelector('#taskTable .showError')"))
        row = page.ask("document.querySelector('#taskTable .showError').closest('tr').innerText")
        page.ask("document.querySelector('#taskTable .showError').click()")
        wait_until(lambda: "exited 12" in str(page.ask("document.body.innerText")))
        shown = page.ask("document.querySelector('.modal-body pre').innerText")

    assert "work_rid=W8CLICK" in row
    assert "run_pipeline.py work W8CLICK" in shown


def _message(task: dict[str, Any]) -> str:
    return str((task["params"].get("work_rid") == "W8RUNNING" and task.get("status_message")) or "")
