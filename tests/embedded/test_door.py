"""luigid behind its door: who does not know the password, or is another site's page, learns and changes nothing."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from luigi.rpc import RemoteScheduler, URLLibFetcher
from luigi.scheduler import RPC_METHODS

from pipeline.foundation import guarded
from pipeline.foundation.errors import SchedulerUnreachable
from pipeline.foundation.work import DOOR_KEY_FILE, without_user, without_users
from pipeline.lanes.builds import scheduler_paused
from pipeline.operations import door
from pipeline.settings.secrets import scheduler_url
from tests.world import browser, servers
from tests.world.bags import make_bag_zip
from tests.world.stack import ROOT, Site, lines, wait_until

PAGE = "/static/visualiser/index.html"
EVIL = "https://evil.example"


def ask(
    luigid_url: str,
    path: str,
    *,
    method: str = "GET",
    known: bool = True,
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """One request, with the password unless told otherwise."""
    place = urlsplit(luigid_url)
    auth = (place.username or "", place.password or "") if known else None
    return requests.request(
        method, f"{without_user(luigid_url)}{path}", auth=auth, headers=headers, timeout=10, allow_redirects=False
    )


PATHS = ["/", PAGE, "/api/is_paused", "/api/add_task", "/metrics", "/history", "/tasklist", "/nowhere", "/api/%70ause"]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "OPTIONS"])
def test_without_the_password_nothing_answers(luigid_url: str, method: str) -> None:
    told = {path: ask(luigid_url, path, method=method, known=False) for path in PATHS}

    assert {path for path, answer in told.items() if answer.status_code != 401} == set()
    assert all(answer.headers["WWW-Authenticate"].startswith("Basic ") for answer in told.values())
    assert all(len(answer.text) < 50 for answer in told.values())


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !",
        "Basic cGlwZWxpbmU6",
        "Basic cGlwZWxpbmU6d3Jvbmc=",
        "Bearer cGlwZWxpbmU6d3Jvbmc=",
    ],
)
def test_a_wrong_password_is_none(luigid_url: str, authorization: str) -> None:
    told = ask(luigid_url, "/api/is_paused", known=False, headers={"Authorization": authorization})

    assert told.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8082", "127.0.0.1.evil.example", "localhost.", "[", ""])
def test_a_server_that_is_called_otherwise_is_not_this_one(luigid_url: str, host: str) -> None:
    """A page elsewhere may have its own name point here: the browser then takes this for its server."""
    assert ask(luigid_url, "/api/is_paused", headers={"Host": host}).status_code in {400, 421}


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "LOCALHOST"])
def test_a_tunnel_may_end_at_any_port(luigid_url: str, host: str) -> None:
    assert ask(luigid_url, "/api/is_paused", headers={"Host": host}).status_code == 200


def test_all_that_may_be_asked_by_get_changes_nothing_and_all_else_is_posted(luigid_url: str) -> None:
    by_get = {name for name in RPC_METHODS if ask(luigid_url, f"/api/{name}").status_code != 405}

    changing = ("add", "disable", "forgive", "get_work", "mark", "pause", "ping", "prune", "re_enable", "send", "set")
    assert by_get == door._READING
    assert not [name for name in by_get if name.startswith(changing)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Origin": EVIL}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": EVIL}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": EVIL}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),  # a form of theirs
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_only_a_page_of_its_own_changes_something(luigid_url: str, headers: dict[str, str], status: int) -> None:
    assert ask(luigid_url, "/api/unpause", method="POST", headers=headers).status_code == status


def test_an_older_browser_tells_its_own_page_by_the_origin(luigid_url: str) -> None:
    own = without_user(luigid_url)

    assert ask(luigid_url, "/api/unpause", method="POST", headers={"Origin": own}).status_code == 200
    assert ask(luigid_url, "/api/unpause", method="POST", headers={"Origin": own[:-1]}).status_code == 403


def test_another_site_s_page_reads_nothing_and_a_link_to_the_page_works(luigid_url: str) -> None:
    theirs = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}

    assert ask(luigid_url, "/api/worker_list", headers=theirs).status_code == 403
    assert ask(luigid_url, PAGE, headers={**theirs, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_luigi_s_own_client_is_let_in_by_the_url_alone(luigid_url: str) -> None:
    assert json.loads(URLLibFetcher().fetch(f"{luigid_url}/api/is_paused", {"data": "{}"}, 10))["response"] == {
        "paused": False
    }
    assert RemoteScheduler(luigid_url).is_paused() == {"paused": False}


def test_a_lane_that_has_no_password_or_a_wrong_one_says_so_and_shows_neither(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    shown = without_user(site.luigid_url)
    wrong = shown.replace("://", "://pipeline:wr0ngOne@")

    ended = [site.call("run", "--lanes", "1", "--verbose", PIPELINE_SCHEDULER_URL=url) for url in (shown, wrong)]
    check = site.call("check", PIPELINE_SCHEDULER_URL=wrong)

    for one in ended:
        assert one.returncode == 3
        assert lines(one.stderr, f"luigid at {shown} asks for another user or password", "scheduler_password_file")
    assert check.returncode == 3
    assert not lines("".join(f"{one.stdout}{one.stderr}" for one in [*ended, check]), "wr0ngOne")
    assert site.depth() == 1


class Bare(BaseHTTPRequestHandler):
    """A luigid that asks nobody for anything, as far as a check asks it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"response": {"paused": false}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """It keeps quiet."""


def test_check_tells_of_a_luigid_that_has_no_door(site: Site) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Bare) as bare:
        threading.Thread(target=bare.serve_forever, daemon=True).start()
        warned = site.call("check", PIPELINE_SCHEDULER_URL=f"http://127.0.0.1:{bare.server_address[1]}").stdout
        bare.shutdown()
    behind = site.call("check").stdout

    assert lines(warned, "scheduler", "answers", "asks nobody for a password", "pipeline.operations.door")
    assert lines(behind, "scheduler", "answers")
    assert not lines(behind, "asks nobody")


def test_what_the_client_says_of_an_url_has_no_password_in_it() -> None:
    said = "401 Client Error for url: http://pipeline:s3cret@127.0.0.1:1/api/x, s3://bucket/a@b and 'https://u:p@h/'"

    assert without_users(said) == (
        "401 Client Error for url: http://127.0.0.1:1/api/x, s3://bucket/a@b and 'https://h/'"
    )


def test_the_password_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file, together = tmp_path / "new" / "scheduler.password", threading.Barrier(8)

    def make(_number: int) -> str:
        together.wait()
        return guarded.secret_of(file)

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(make, range(8)))

    assert made == {file.read_text().strip()}
    assert len(made.pop()) >= 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["scheduler.password"]


@pytest.mark.parametrize(
    ("url", "file", "found"),
    [
        ("http://127.0.0.1:8082", "named", "http://pipeline:pw@127.0.0.1:8082"),
        ("http://me:own@127.0.0.1:8082", "named", "http://me:own@127.0.0.1:8082"),
        ("https://far.example:8443", "named", "https://pipeline:pw@far.example:8443"),
        ("https://far.example:8443", DOOR_KEY_FILE, "https://far.example:8443"),
    ],
)
def test_the_password_goes_to_the_scheduler_that_it_is_for(tmp_path: Path, url: str, file: str, found: str) -> None:
    named, problems = tmp_path / "password", list[str]()
    named.write_text("pw\n", encoding="ascii")

    assert scheduler_url(url, str(named) if file == "named" else file, problems) == found
    assert problems == []


@pytest.mark.parametrize("password", ["pass@word", "pass%20word", "གསང་ཚིག"])
def test_a_password_that_luigi_s_client_would_misread_is_named_not_shown(tmp_path: Path, password: str) -> None:
    file, problems = tmp_path / "password", list[str]()
    file.write_text(f"{password}\n", encoding="utf-8")

    scheduler_url("http://127.0.0.1:8082", str(file), problems)

    (told,) = problems
    assert told.startswith(f"[pipeline] scheduler_password_file: {file}: ")
    assert password not in told


def test_its_own_command_serves_keeps_its_state_and_names_no_password_to_other_users(tmp_path: Path) -> None:
    port, password_file, state = servers.free_port(), tmp_path / "password", tmp_path / "state"
    command = [sys.executable, "-m", "pipeline.operations.door", "--port", str(port), "--host", "luigid"]
    command += ["--state-path", str(state), "--password-file", str(password_file)]
    served = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        wait_until(password_file.exists)
        password = password_file.read_text(encoding="ascii").strip()
        url = f"http://pipeline:{password}@127.0.0.1:{port}"
        wait_until(lambda: answers(url))
        seen = Path(f"/proc/{served.pid}/cmdline").read_bytes()
        by_name = ask(url, "/api/is_paused", headers={"Host": "luigid:8082"}).status_code
    finally:
        served.terminate()
        _, err = served.communicate(timeout=20)

    assert served.returncode == 0, err
    assert state.exists()
    assert by_name == 200
    assert password.encode() not in seen
    assert password not in err


def answers(url: str) -> bool:
    try:
        return not scheduler_paused(url)
    except SchedulerUnreachable:
        return False


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Debian's chromium is not installed")
def test_in_a_browser_the_page_works_behind_the_door_and_runs_nothing_that_is_written_into_it(luigid_url: str) -> None:
    scheduler = RemoteScheduler(luigid_url)
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    scheduler.add_task(
        worker="w", task_id="Evil_1", family="Evil", params={"work_rid": f"W8{attack}"}, status="PENDING"
    )
    work: Any = scheduler.get_work(worker="w", host=attack)
    scheduler.set_task_status_message("Evil_1", attack)

    with browser.browser() as page:
        page.open(f"{luigid_url}{PAGE}#search__search=W8")
        wait_until(lambda: page.ask("!!document.querySelector('#taskTable .statusMessage')"))
        page.ask("document.querySelector('#taskTable .statusMessage').click()")
        wait_until(lambda: "onerror" in str(page.ask("document.querySelector('#statusMessageModal pre').innerText")))
        row = page.ask("document.querySelector('#taskTable tbody').innerText")
        page.ask("new Promise(done => setTimeout(done, 1200))")  # the message is asked for twice a second
        shown = page.ask("document.querySelector('#statusMessageModal pre').innerText")
        pictures = page.ask("document.querySelectorAll('img[src=x]').length")
        page.ask("new LuigiAPI('../../api').pause()")
        wait_until(lambda: scheduler.is_paused() == {"paused": True})
        page.ask("new LuigiAPI('../../api').unpause()")
        wait_until(lambda: scheduler.is_paused() == {"paused": False})
        title = page.ask("document.title")

    assert work["task_id"] == "Evil_1"
    assert attack in row
    assert shown == attack
    assert pictures == 0
    assert title != "owned"
