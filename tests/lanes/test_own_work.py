"""Whatever luigid answers, a lane imports, runs and archives nothing that it has not scheduled itself."""

import base64
import http.server
import itertools
import json
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import luigi.rpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.foundation.errors import SchedulerUnreachable
from pipeline.lanes.builds import OwnWorkOnly, scheduler_paused
from pipeline.record import BagState
from pipeline.tasks import graph
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines

Answer = Callable[[str, dict[str, Any]], bytes | None]
"""Given a call's name and arguments: the body of the answer; None: what the real luigid answers."""

TRAP = """
import luigi
from pathlib import Path
Path(__file__).with_name("sprung").touch()
class Trap(luigi.Task):
    def run(self):
        Path(__file__).with_name("ran").touch()
"""


@contextmanager
def double(luigid_url: str, answer: Answer) -> Iterator[str]:
    """Something that lanes take for luigid."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = json.loads(urllib.parse.parse_qs(body.decode())["data"][0])
            self._answer(answer(self.path.rpartition("/")[2], told), body)

        def do_GET(self) -> None:
            self._answer(None, None)

        def _answer(self, said: bytes | None, body: bytes | None) -> None:
            if said is None:
                split = urllib.parse.urlsplit(luigid_url)
                request = urllib.request.Request(f"http://{split.hostname}:{split.port}{self.path}", data=body)
                word = base64.b64encode(f"{split.username}:{split.password}".encode()).decode()
                request.add_header("Authorization", f"Basic {word}")
                with urllib.request.urlopen(request, timeout=30) as real:
                    said = real.read()
            moved = said.startswith(b"http://")
            self.send_response(307 if moved else 200)
            if moved:
                self.send_header("Location", said.decode())
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def response(**told: object) -> bytes:
    return json.dumps({"response": told}).encode()


def work(**told: object) -> bytes:
    return response(running_tasks=[], n_pending_tasks=1, n_unique_pending=1, **told)


def named(task: luigi.Task) -> dict[str, object]:
    """A task as luigid hands it out."""
    return {
        "task_id": task.task_id,
        "task_family": task.task_family,
        "task_module": task.task_module,
        "task_params": task.to_str_params(),
    }


def hostile(skipped: str) -> list[bytes]:
    """Work that a lane has not scheduled, in every way that Luigi's worker would take it."""
    trap = {"task_family": "Trap", "task_module": "trap", "task_params": {}}
    theirs = [task("W2", skipped) for task in (graph.Download, graph.Debag, graph.Sync)]
    message = graph.ProcessMessage(bags=[("W2", skipped)])
    return [
        work(task_id="Trap__99914b932b", **trap),
        work(task_id=None, batch_id="b", batch_task_ids=["Trap__99914b932b"], **trap),
        work(batch_id="b", batch_task_ids=[theirs[2].task_id], **{**named(theirs[2]), "task_id": None}),
        work(task_id="SGEJobTask", task_family="SGEJobTask", task_module="luigi.contrib.sge", task_params={}),
        work(task_id="x", task_family="Trap", task_module="os; import trap", task_params={"": ""}),
        work(task_id={"a": [1]}, **trap),
        work(task_id=[message.task_id], **trap),
        *(work(**named(task)) for task in [*theirs, message]),
        work(batch_task_ids=5, **named(theirs[0])),
    ]


def test_a_lane_runs_and_imports_nothing_that_it_has_not_scheduled_itself(
    site: Site, luigid_url: str, tmp_path: Path
) -> None:
    (tmp_path / "trap.py").write_text(TRAP, encoding="utf-8")
    failing = tmp_path / "failing.sh"
    failing.write_text("exit 3\n", encoding="utf-8")
    site.announce(make_bag_zip(tmp_path, "W2"))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(failing))  # it lies in staging, verified
    site.call("skip", "W2", "--reason", "withdrawn", "--yes")
    (bag,) = site.rows("bags")
    site.announce(make_bag_zip(tmp_path, "W1"))
    left = itertools.chain.from_iterable(itertools.repeat(hostile(bag["bag_id"]), 2))
    asked: list[tuple[str, dict[str, Any]]] = []
    orders = [{"name": name, "kwargs": {"n": 8}} for name in ("set_worker_processes", "handle_interrupt", "add")]

    def answer(call: str, told: dict[str, Any]) -> bytes | None:
        asked.append((call, told))
        if call == "ping":
            return response(rpc_messages=[*orders, "", {"name": 5}])
        return next(left, None) if call == "get_work" else None

    with double(luigid_url, answer) as url:
        run = site.start("run", "--lanes", "1", PYTHONPATH=str(tmp_path), PIPELINE_SCHEDULER_URL=url)
        _, said = run.communicate(timeout=120)

    assert next(left, None) is None  # the lane has heard it all
    assert run.returncode == 0, said
    assert site.archived("W1") == SMALL_WORK
    assert not list((site.home / "archive").rglob("W2*"))
    assert {row["work_rid"]: row["state"] for row in site.rows("bags")} == {"W1": BagState.DONE, "W2": BagState.SKIPPED}
    assert not (tmp_path / "sprung").exists()
    assert {told["family"] for call, told in asked if call == "add_task"} <= {
        *("ProcessMessage", "Sync", "Debag", "Download")
    }
    assert not [told for call, told in asked if call == "add_worker" and "workers" in told["info"]]
    assert lines(said, "has not scheduled")
    assert not lines(said, "Traceback")


def test_a_task_is_run_once_a_build_however_often_it_is_handed_out(site: Site, luigid_url: str, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    download: list[dict[str, object]] = []
    handed_out = itertools.count()

    def answer(call: str, told: dict[str, Any]) -> bytes | None:
        if call == "add_task" and told["family"] == "Download" and told["status"] == "PENDING":
            download[:] = [named(graph.Download(**told["params"]))]
        return work(**download[0]) if call == "get_work" and next(handed_out) < 14 else None

    with double(luigid_url, answer) as url:
        run = site.call("run", "--lanes", "1", PIPELINE_SCHEDULER_URL=url)

    assert next(handed_out) > 14
    assert [row["step"] for row in site.rows("events") if row["outcome"] == "done"] == ["download", "debag", "sync"]
    assert (run.returncode, site.archived("W1")) == (0, SMALL_WORK), run.stderr


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"null", b"[]", b"5", b"{", b"{}", b'{"answer": 1}', b"\xff\xfe", b'"response"'),
        b'{"response": ' + b"[" * 100_000,
        b" " * (17 << 20),
        b"http://127.0.0.1:9/elsewhere",
    ],
    ids=lambda said: said[:20].decode("latin-1").strip() or f"{len(said)} blanks",
)
def test_an_answer_that_is_none_is_as_if_luigid_did_not_answer(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUIGI_CONFIG_PATH", "")
    luigi.configuration.get_config().set("core", "rpc_retry_attempts", "1")
    with double("", lambda _call, _told: said) as url:
        with pytest.raises(luigi.rpc.RPCError):
            OwnWorkOnly(url).get_work(worker="w", host="h")
        with pytest.raises(SchedulerUnreachable):
            scheduler_paused(url)


def test_what_speaks_no_http_is_as_if_luigid_did_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_answer_once, args=(server, b"hello\r\n\r\n"))
        answering.start()
        with pytest.raises(SchedulerUnreachable):
            scheduler_paused(f"http://user:secret@127.0.0.1:{server.getsockname()[1]}")
        answering.join()


def _answer_once(server: socket.socket, said: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(said)


@pytest.mark.parametrize("told", [5, [], "x", {}, {"task_id": 5}, {"task_id": "T"}, {"batch_id": "b"}])
def test_an_answer_of_another_shape_is_no_work(told: object) -> None:
    with double("", lambda _call, _told: json.dumps({"response": told}).encode()) as url:
        assert OwnWorkOnly(url).get_work(worker="w", host="h")["task_id"] is None


WORDS = ["task_id", "batch_id", "batch_task_ids", "task_family", "task_module", "task_params", "n_pending_tasks"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["Mine", "Theirs", "os"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner),
    max_leaves=12,
)

HANDED_OUT = st.fixed_dictionaries(
    {"task_id": st.sampled_from(["Mine", "Theirs"]) | ANYTHING}, optional=dict.fromkeys(WORDS[1:], ANYTHING)
)
ANSWERS = (HANDED_OUT | ANYTHING).map(lambda held: {"response": held}) | ANYTHING


def test_whatever_luigid_answers_all_that_a_lane_may_run_is_what_it_scheduled_and_that_once() -> None:
    luigi.configuration.get_config().set("core", "rpc_retry_attempts", "1")
    said: list[bytes] = []

    def answer(call: str, _told: dict[str, Any]) -> bytes:
        return said.pop() if said and call == "get_work" else response()

    with double("", answer) as url:

        @settings(max_examples=200, deadline=None, database=None)
        @given(st.lists(ANSWERS, min_size=1, max_size=6))
        def fuzz(answers: list[object]) -> None:
            said[:] = [json.dumps(one).encode() for one in answers]
            scheduler = OwnWorkOnly(url)
            scheduler.add_task(worker="w", task_id="Mine", status="PENDING", runnable=True, family="Mine", params={})
            run: list[object] = []
            while said:
                with suppress(luigi.rpc.RPCError):
                    told = scheduler.get_work(worker="w", host="h")
                    assert set(told) == {"task_id", "running_tasks", "n_pending_tasks", "n_unique_pending"}
                    run.append(told["task_id"])
            assert [task_id for task_id in run if task_id is not None] in ([], ["Mine"])

        fuzz()
