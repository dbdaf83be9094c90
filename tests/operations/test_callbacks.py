"""Callbacks: what is committed is told, at least once, whatever a receiver or a sender does; over real HTTP."""

import base64
import hmac
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from pipeline.foundation.errors import InvalidBag, LeaseLost, SettingsError, StorageUnreachable
from pipeline.foundation.work import Bag
from pipeline.operations import callbacks, needs_you
from pipeline.operations.channels import NotDelivered
from pipeline.operations.status import Standing
from pipeline.record import Phase, outbox, replicas
from pipeline.settings import Callback
from pipeline.tasks.context import Site as Opened
from tests.world import servers, warm
from tests.world.answering import answering
from tests.world.bags import make_bag_zip
from tests.world.receivers import Mailbox, Receiver
from tests.world.stack import ROOT, Site, lines, wait_until

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
BAG = Bag("W1", "bucket", "Archive1/W1.bag.zip", source="test", etag="e", size_bytes=7)
PROOF = {"proof": {"name": "W1.bag/W1.digests.json", "sha512": "ab" * 64}}
LONG_AGO = "2026-01-01 00:00:00.000000"
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/callback.schema.json").read_text(encoding="utf-8"))


def status(code: int, **headers: str) -> Callable[[Receiver], None]:
    def answer(handler: Receiver) -> None:
        handler.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


_taken = status(204)


def taken_but(code: int, *, first: int) -> Callable[[Receiver], None]:
    """So many are not taken."""
    return lambda handler: status(code if len(handler.posts) <= first else 204)(handler)


def silent(_: Receiver) -> None:
    threading.Event().wait(1)


def reset(handler: Receiver) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def trickle(handler: Receiver) -> None:
    """A byte of the headers now and then, until the other side has gone."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not threading.Event().wait(0.05):
        handler.wfile.write(b"x")


def endless(handler: Receiver) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * 65536)


@dataclass
class Told:
    """What a receiver got, and its settings."""

    callback: Callback
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.posts]


Listen = Callable[..., Told]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "callback.key"
    path.write_text(f"{SECRET}\n", encoding="ascii")
    path.chmod(0o600)
    return path


@pytest.fixture
def listen(secret_file: Path) -> Iterator[Listen]:
    """Starts receivers, which end with the test."""
    with ExitStack() as stack:

        def begin(answer: Callable[[Receiver], None] = _taken, **how: Any) -> Told:
            told = Told(Callback("pathway"))
            url = stack.enter_context(answering(Receiver, posts=told.posts, answer=staticmethod(answer)))
            plain = {"name": "pathway", "events": ("home",), "timeout_seconds": 60.0}
            told.callback = Callback(**{**plain, "url": f"{url}/hush-hush", "secret_file": secret_file, **how})
            return told

        yield begin


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def opened(here: Opened, *told: Told) -> Opened:
    """The site with these receivers; nothing was asked of its database yet."""
    here.settings = replace(here.settings, callbacks=tuple(one.callback for one in told))
    here.engine.dispose()
    return here


def see(here: Opened, bag: Bag = BAG) -> None:
    here.record.see(bag)
    assert here.leases.take(bag.work_rid, bag.bag_id)


def bring_home(here: Opened, bag: Bag = BAG) -> None:
    see(here, bag)
    path = f"/archive/{bag.work_rid}"
    here.record.commit_sync(
        bag, bag.work_rid, archive_path=path, files=3, size_bytes=9, facts=PROOF, leases=here.leases
    )


def copied(here: Opened) -> None:
    copy = {"work_rid": "W1", "bag_id": BAG.bag_id, "replica": "deep", "content": "c", "object_key": "k"}
    proved = {"version_id": "v1", "checksum": "s", "bytes": 9}
    replicas.sent(here.engine, here.leases, {"W1"}, {**copy, **proved}, facts={"bucket": "second"})


def rows(here: Opened) -> list[dict[str, Any]]:
    with here.engine.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql("SELECT * FROM outbox ORDER BY id").mappings()]


def set_back(here: Opened, column: str) -> None:
    """What was to come later is due; or it was begun long ago."""
    with here.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE outbox SET {column} = '{LONG_AGO}'")


def send(here: Opened) -> None:
    (callback,) = here.settings.callbacks
    callbacks.send_due(here, callback)


def fits(value: Any, schema: dict[str, Any]) -> set[str]:
    """The properties that a schema knows of a value, which fits it: as much of JSON Schema as ours uses."""
    known = set(schema) - {"$schema", "title", "description", "$defs", "if", "then"}
    assert known <= {"type", "required", "properties", "const", "pattern", "enum", "allOf", "$ref"}, known
    types: dict[str, type] = {"object": dict, "string": str, "integer": int, "boolean": bool}
    assert issubclass(type(value), types.get(schema.get("type", ""), object)), (value, schema)
    assert value == schema.get("const", value)
    assert value in schema.get("enum", [value])
    assert "pattern" not in schema or re.search(schema["pattern"], value)
    assert set(schema.get("required", ())) <= set(value if isinstance(value, dict) else ())
    names: set[str] = set(schema.get("properties", ()))
    if "$ref" in schema:
        names |= fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    for part in schema.get("allOf", ()):
        chosen = {name: one["const"] for name, one in part.get("if", {}).get("properties", {}).items()}
        if all(value[name] == wanted for name, wanted in chosen.items()):
            names |= fits(value, part.get("then", part))
    for name, below in schema.get("properties", {}).items():
        inside = fits(value[name], below) if name in value else set()
        assert not inside or set(value[name]) <= inside, f"not in the schema: {value[name]}"
    return names


def test_what_came_home_failed_and_was_copied_is_told_once_each_signed_and_as_the_schema_has_it(
    here: Opened, listen: Listen
) -> None:
    told = listen(events=("home", "failed", "replicated"))
    bring_home(opened(here, told))
    error = InvalidBag("a file is missing", work_rid="W1", faults=())
    error.go_on, error.by_hand = "run_pipeline.py work W1", "mend it"  # type: ignore[assignment]  # as it is typed
    here.record.failed(BAG, Phase.DEBAG, error)
    copied(here)

    send(here)
    send(here)

    for document in told.documents:
        assert fits(document, SCHEMA) == set(document)
    assert [one["type"] for one in told.documents] == ["work.home", "work.failed", "work.replicated"]
    home, failed, replicated = (one["data"] for one in told.documents)
    came = {"rid": "W1", "bag_id": BAG.bag_id, "source": "test", "bucket": "bucket", "key": "Archive1/W1.bag.zip"}
    assert home == came | {
        "archive_path": "/archive/W1",
        "files": 3,
        "bytes": 9,
        "digests_file": "W1.bag/W1.digests.json",
        "digests_sha512": "ab" * 64,
    }
    assert failed == came | {
        "step": "debag",
        "kind": "invalid-bag",
        "error": "W1: a file is missing",
        "go_on": "run_pipeline.py work W1",
        "by_hand": "mend it",
        "final": True,
    }
    copy = {"name": "deep", "bucket": "second", "key": "k", "version_id": "v1", "bytes": 9}
    assert replicated == came | {"replica": copy}
    for headers, body in told.posts:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mine = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
        assert headers["webhook-signature"] == f"v1,{mine}"
        assert headers["webhook-id"] == json.loads(body)["id"]
    assert rows(here) == []


def test_the_receiver_of_the_page_takes_what_is_signed_and_nothing_else(listen: Listen, secret_file: Path) -> None:
    page = (ROOT / "docs/callbacks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"(?s)```python\n(.*?)```", page)
    port = servers.free_port()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(secret_file), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        try:
            wait_until(lambda: listens(port), seconds=90)
            good = replace(listen().callback, url=f"http://127.0.0.1:{port}/")
            callbacks.send_sample(good)
            secret_file.write_text(f"whsec_{base64.b64encode(KEY[1:]).decode()}", encoding="ascii")
            with pytest.raises(NotDelivered, match="answered 403"):
                callbacks.send_sample(good)
            secret_file.write_text(f"whsec_{base64.b64encode(KEY[1:]).decode()} {SECRET}", encoding="ascii")
            callbacks.send_sample(good)
        finally:
            receiver.terminate()
        assert receiver.stdout is not None
        assert [line.split()[0] for line in receiver.stdout] == ["test", "test"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(500), "127.0.0.1 answered 500"),
        (status(404), "127.0.0.1 answered 404"),
        (status(301, Location="http://127.0.0.1:9/"), "127.0.0.1 answered 301"),
        (reset, "127.0.0.1: Connection reset by peer"),
        (silent, "127.0.0.1: no answer within 0.3 s"),
        (trickle, "127.0.0.1: no answer within 0.3 s"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), "127.0.0.1: BadStatusLine"),
    ],
    ids=["500", "404", "301", "reset", "silent", "trickle", "no HTTP"],
)
def test_what_a_receiver_does_not_take_waits_and_is_sent_again_with_the_same_words(
    here: Opened, listen: Listen, answer: Callable[[Receiver], None], why: str
) -> None:
    told = listen(answer, timeout_seconds=0.3 if "0.3 s" in why else 60)
    bring_home(opened(here, told))

    with pytest.raises(NotDelivered, match=re.escape(why)) as caught:
        send(here)
    send(here)  # not due

    assert "hush-hush" not in str(caught.value)
    (row,) = rows(here)
    assert (row["attempts"], row["error"]) == (1, why)
    assert len(told.posts) == 1
    set_back(here, "due_on")
    with pytest.raises(NotDelivered):
        send(here)
    assert told.posts[0][1] == told.posts[1][1]
    (row,) = rows(here)
    with here.engine.connect() as connection:
        later = "SELECT (julianday(due_on) - julianday('now')) * 86400 FROM outbox"
        assert 60 < float(connection.exec_driver_sql(later).scalar() or 0) <= 120


def test_a_receiver_that_answers_and_never_ends_has_taken_it(here: Opened, listen: Listen) -> None:
    told = listen(endless)
    bring_home(opened(here, told))

    send(here)

    assert (len(told.posts), rows(here)) == (1, [])


def test_after_three_that_were_not_taken_a_receiver_is_left_alone_and_what_is_new_comes_first(
    here: Opened, listen: Listen
) -> None:
    told = listen(taken_but(500, first=3))
    opened(here, told)
    for number in range(5):
        bring_home(here, replace(BAG, work_rid=f"W{number}", etag=f"e{number}"))

    with pytest.raises(NotDelivered, match=r"^0 sent; not taken: W0: .*; W1: .*; W2: "):
        send(here)
    set_back(here, "due_on")
    send(here)

    assert [one["data"]["rid"] for one in told.documents] == ["W0", "W1", "W2", "W3", "W4", "W0", "W1", "W2"]


def test_a_receiver_that_hangs_holds_up_neither_another_nor_the_lanes(here: Opened, listen: Listen) -> None:
    woken = threading.Event()

    def hang(handler: Receiver) -> None:
        woken.wait(60)
        status(204)(handler)

    slow, quick = listen(hang, name="slow"), listen(name="quick")
    opened(here, slow, quick)
    bring_home(here)

    with callbacks.sending(here, watch=False) as sending:
        wait_until(lambda: slow.posts, seconds=90)
        assert sending["callback quick"].result(90) == "1 sent"
        bring_home(here, replace(BAG, work_rid="W2", etag="e2"))
        assert not sending["callback slow"].done()
        woken.set()
        assert sending["callback slow"].result(90)

    assert {row["work_rid"] for row in rows(here)} == {"W2"}


def test_a_receiver_is_told_of_its_events_and_sources_alone(here: Opened, listen: Listen) -> None:
    home, failed, foreign = (
        listen(name="home"),
        listen(name="failed", events=("failed",)),
        listen(name="foreign", sources=("fpl",)),
    )
    opened(here, home, failed, foreign)

    bring_home(here)
    here.record.failed(BAG, Phase.SYNC, StorageUnreachable("S3 is away", work_rid="W1"))

    told = [(row["callback"], row["event"]) for row in rows(here)]
    assert told == [("home", "home"), ("failed", "failed")]
    assert json.loads(rows(here)[1]["data"])["final"] is False


def test_nothing_is_told_of_what_was_not_committed(here: Opened, listen: Listen) -> None:
    opened(here, listen(events=("home", "failed", "replicated")))
    see(here)
    here.leases.release("W1")

    for act in (bring_home, copied):
        with pytest.raises((LeaseLost, AssertionError)), taken_over(here):
            act(here)

    assert rows(here) == []


@contextmanager
def taken_over(here: Opened) -> Iterator[None]:
    """Another lane has the work."""
    other = Opened(here.settings, lane="other")
    assert other.leases.take("W1", BAG.bag_id)
    try:
        yield
    finally:
        other.leases.release("W1")
        other.engine.dispose()


def test_without_a_callback_no_statement_more_is_sent_to_the_database(here: Opened, listen: Listen) -> None:
    def statements(site: Opened) -> list[str]:
        sent: list[str] = []
        sqlalchemy.event.listen(site.engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
        bring_home(site)
        site.record.failed(BAG, Phase.SYNC, StorageUnreachable("S3 is away", work_rid="W1"))
        copied(site)
        site.leases.release("W1")
        with site.engine.begin() as connection:
            for table in ("syncs", "replicas", "bags", "glacier_sync_progress"):
                connection.exec_driver_sql(f"DELETE FROM {table}")
        return sent

    told = listen(events=("home", "failed", "replicated"))
    without = statements(Opened(here.settings))
    with_one = statements(opened(Opened(here.settings), told))

    assert not [one for one in without if "outbox" in one]
    assert len([one for one in with_one if "INSERT INTO outbox" in one]) == 3
    assert len(with_one) == len(without) + 6


def test_of_many_senders_one_gets_each_message_and_a_claim_ends(engine: sqlalchemy.Engine) -> None:
    outbox.set_receivers(engine, lambda *_: ["pathway"])
    with engine.begin() as connection:
        for number in range(24):
            told = {"work_rid": f"W{number}", "bag_id": ""}
            outbox.announce(connection, outbox.CallbackEvent.HOME, {"odd": "\udce9"}, **told)
    limits = {"seconds": 60.0, "give_up_seconds": 3600.0}
    claimed: list[str] = []

    def take_all() -> None:
        while row := outbox.claim(engine, "pathway", **limits):
            claimed.append(row.work_rid)

    threads = [threading.Thread(target=take_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(claimed) == sorted(f"W{number}" for number in range(24))
    assert outbox.undelivered(engine)["pathway"]["waiting"] == 24
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE outbox SET due_on = '{LONG_AGO}' WHERE work_rid = 'W7'")
    again = outbox.claim(engine, "pathway", **limits)
    assert again is not None
    assert (again.work_rid, again.attempts, again.is_late) == ("W7", 2, False)
    outbox.not_taken(engine, replace(again, attempts=1), "old", seconds=1, dead=None, agent="a")  # another has it now
    assert {one.error for one in outbox.rows(engine)} == {""}
    outbox.not_taken(engine, again, "no", seconds=1, dead={"kind": "not-delivered", "error": "no"}, agent="a")
    assert outbox.claim(engine, "pathway", **limits) is None
    assert outbox.undelivered(engine)["pathway"]["dead"] == 1
    assert (outbox.send_again(engine, "pathway"), outbox.drop(engine, "pathway", waiting=False)) == (1, 0)
    assert outbox.drop(engine, "pathway", waiting=True) == 24


@pytest.mark.parametrize(("code", "times"), [(500, 2), (410, 1)])
def test_what_is_given_up_needs_a_person_who_has_it_sent_again(
    here: Opened, listen: Listen, code: int, times: int
) -> None:
    told = listen(taken_but(code, first=times))
    bring_home(opened(here, told))
    set_back(here, "begun_on")  # nobody sent for long: that is not the receiver's fault
    for _ in range(times - 1):
        with pytest.raises(NotDelivered, match=f"W1: 127.0.0.1 answered {code}$"):
            send(here)
        set_back(here, "begun_on")
        set_back(here, "due_on")

    with pytest.raises(
        NotDelivered, match=rf"no longer tried: 127\.0\.0\.1 answered {code}; go on with: .* callbacks resend pathway$"
    ):
        send(here)
    send(here)

    assert [row["due_on"] for row in rows(here)] == [None]
    document = Standing(here).document(most_ended=1)
    assert document["callbacks"]["pathway"] == {"waiting": 0, "dead": 1, "due_seconds": 0, "is_set": True}
    assert {"what": "1 callback to pathway given up", "go_on": "run_pipeline.py callbacks list", "by_hand": ""} in (
        needs_you.needs_you(document)
    )
    with here.engine.connect() as connection:
        events = connection.exec_driver_sql("SELECT work_rid, bag_id, kind FROM events WHERE step = 'callback'").all()
    assert [tuple(row) for row in events] == [("W1", BAG.bag_id, "not-delivered")]
    outbox.send_again(here.engine, "pathway")
    send(here)
    assert rows(here) == []
    assert len(told.posts) == times + 1
    assert len({body for _, body in told.posts}) == 1


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (SECRET, 0o644, "may be read or changed by others: chmod 600"),
        ("hush-hush", 0o600, "holds no key"),
        (SECRET.removeprefix("whsec_"), 0o600, "holds no key"),
        (SECRET[:20], 0o600, "holds no key"),
        ("whsec_hush!", 0o600, "holds no key"),
        ("", 0o600, "holds no key"),
        (None, 0o600, "No such file"),
    ],
)
def test_keys_that_cannot_be_used_are_told_without_showing_them(
    listen: Listen, secret_file: Path, content: str | None, mode: int, told: str
) -> None:
    secret_file.unlink()
    if content is not None:
        secret_file.write_text(content, encoding="ascii")
        secret_file.chmod(mode)

    with pytest.raises(SettingsError, match=told) as caught:
        callbacks.see(listen().callback)

    assert "[callback pathway] secret_file" in str(caught.value)
    assert not content or content not in str(caught.value)


@pytest.fixture
def settled(site: Site, listen: Listen, secret_file: Path) -> Told:
    """A receiver that the settings of a site with lanes name."""
    told = listen()
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        file.write(f"[callback pathway]\nurl = {told.callback.url}\nsecret_file = {secret_file}\n")
    return told


WRONG = {
    "url = ": "[callback a] url is missing",
    "url = http://example.org/hush-hush": "[callback b] url is http: only a receiver on this host may have that",
    "url = ftp://example.org/hush-hush": "[callback c] url is not http(s)://host",
    "url = https://me:hush-hush@example.org": "[callback d] url holds a user, a password",
    "secret_file = ": "[callback e] secret_file is missing",
    "events = home, gone": "[callback f] events are not all of home, failed, replicated",
    "sources = fpl": "[callback g] sources: there is no [source fpl]",
    "give_up_days = 400": "[callback h] give_up_days is 400.0, not 0 to 365",
    "retries = 4": "[callback i] has no setting 'retries'",
}


def test_wrong_settings_of_receivers_are_told_all_at_once_before_anything_starts(site: Site, secret_file: Path) -> None:
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as file:
        for name, line in zip("abcdefghi", WRONG, strict=True):
            good = ["url = https://example.org/hush-hush", f"secret_file = {secret_file}"]
            kept = [one for one in good if one.split()[0] != line.split()[0]]
            file.write("\n".join([f"[callback {name}]", line, *kept, ""]))

    ended = site.call("notify")

    assert ended.returncode == 2
    for told in WRONG.values():
        assert lines(ended.stderr, told), told
    assert "hush-hush" not in ended.stdout + ended.stderr


def test_check_says_that_a_receiver_is_in_order_and_sends_it_nothing(
    site: Site, settled: Told, secret_file: Path
) -> None:
    good = site.call("check")
    secret_file.chmod(0o644)
    bad = site.call("check")

    assert lines(
        good.stdout, "callback pathway", "ok", "127.0.0.1 is told of home, from all sources; signed with 1 key"
    )
    assert lines(bad.stdout, "callback pathway", "wrong", "chmod 600")
    assert bad.returncode == 3
    assert settled.posts == []
    assert "hush-hush" not in good.stdout + bad.stdout


def test_lanes_and_senders_that_are_killed_in_between_lose_nothing_and_what_comes_twice_is_the_same(
    site: Site, tmp_path: Path, settled: Told
) -> None:
    short = {"PIPELINE_QUEUE_LEASE_SECONDS": "2", "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "0.5"}
    site.announce(make_bag_zip(tmp_path, "W1"))
    killed = site.call("run", "--lanes", "1", PIPELINE_TEST_KILL_AT="before delete 1", **short)
    assert lines(killed.stderr, "lane 1 died", "-9"), killed.stderr
    assert [(row["work_rid"], row["event"]) for row in site.rows("outbox")] == [("W1", "home")]

    killed = site.call("notify", PIPELINE_TEST_KILL_AT="callback sent, not marked")
    at_once = site.call("notify")
    _due(site)
    again = site.call("notify")

    assert (killed.returncode, at_once.returncode, again.returncode) == (-9, 0, 0), again.stderr
    assert lines(at_once.stdout, "callback pathway: nothing to tell")
    assert lines(again.stdout, "callback pathway: 1 sent")
    first, second = settled.posts
    assert first[1] == second[1]
    assert settled.documents[0]["data"]["archive_path"] == str(next((site.home / "archive").rglob("W1")))
    site.wait_for_leases()
    assert site.call("run", "--lanes", "1").returncode == 0
    assert site.works()["W1"].stage == "done"
    assert site.rows("outbox") == []


def _due(site: Site) -> None:
    engine = sqlalchemy.create_engine(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE outbox SET due_on = '{LONG_AGO}'")
    engine.dispose()


def test_an_operator_is_told_what_was_given_up_and_decides_about_it(
    site: Site, tmp_path: Path, settled: Told, mailbox: Mailbox
) -> None:
    site.call("notify", PIPELINE_NOTIFY_DIGEST_HOUR="-1")  # from here on
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")
    at = settled.callback.url
    away = {"PIPELINE_CALLBACK_PATHWAY_URL": f"http://127.0.0.1:{servers.free_port()}/hush-hush"}
    site.call("notify", **away)
    _due(site)
    tried = site.call("notify", PIPELINE_CALLBACK_PATHWAY_GIVE_UP_DAYS="0", **away)
    listed, needed = site.call("callbacks", "list"), site.call("status")
    as_json = json.loads(site.call("callbacks", "list", "pathway", "--json").stdout)
    engine = sqlalchemy.create_engine(site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE events SET at = '{LONG_AGO}'")
        connection.exec_driver_sql(f"UPDATE notices SET tried_on = '{LONG_AGO}'")
    engine.dispose()
    site.call("notify", **away)

    assert tried.returncode == 3
    assert lines(tried.stderr, "callback pathway: 0 sent; not taken: W1: callback pathway could not be told (home)")
    assert lines(listed.stdout, "pathway", "W1", "home", "given up", "127.0.0.1: Connection refused")
    assert as_json["callbacks"][0]["next"] == "given up"
    assert lines(needed.stdout, "needs you: 1 callback to pathway given up")
    assert lines(needed.stdout, "callbacks: pathway: 0 waiting, 1 given up")
    assert "callback pathway could not be told (home)" in mailbox.letters[0]
    assert "callbacks resend pathway" in mailbox.letters[0]
    assert site.call("callbacks", "drop", "pathway").returncode == 2
    assert lines(site.call("callbacks", "resend", "pathway").stdout, "1 callback to pathway: sent again by notify")
    assert site.call("callbacks", "resend", "pathway").returncode == 2
    assert site.call("notify", PIPELINE_CALLBACK_PATHWAY_URL=at).returncode == 0
    assert [one["data"]["rid"] for one in settled.documents] == ["W1"]
    assert lines(site.call("callbacks", "list").stdout, "none waits, and none was given up")


def test_the_watch_sends_what_comes_home_and_ends_when_it_is_asked_to(
    site: Site, tmp_path: Path, settled: Told
) -> None:
    watch = site.start("notify", "--watch")
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.call("run", "--lanes", "1")
    wait_until(lambda: settled.posts and not site.rows("outbox"), seconds=90)

    watch.terminate()

    assert warm.ended(watch).returncode == 0
