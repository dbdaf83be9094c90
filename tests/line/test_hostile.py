"""What comes from outside is never obeyed: not by the line, not by a terminal, not by a spreadsheet or a browser."""

import json
import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipeline.foundation import durable, fixity
from pipeline.foundation.logs import JsonLines, PlainLines
from pipeline.foundation.work import staging_key
from tests.world.bags import bag_members, make_bag_zip, write_zip
from tests.world.stack import Site

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\r\n=cmd|'C calc'!A0<script>alert(1)<script>"
FACTS = fixity.FileFixity(1, {"md5": "0" * 32})
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def test_nothing_that_a_terminal_obeys_reaches_it_or_a_log(site: Site, tmp_path: Path) -> None:
    members = bag_members("W1", files={f"images/{EVIL}.jpg": b"x"}) | {f"W1.bag/data/images/{EVIL}": b"unlisted"}
    site.announce(write_zip(tmp_path / "W1.bag.zip", members))
    for key in (f"a{EVIL}/W2.{EVIL}.bag.zip", f"a/{EVIL}.bag.zip", f"a/{EVIL}"):
        site.send(json.dumps({"Records": [site.event(quote(key), "0" * 32, 5)]}))
    site.send(json.dumps(EVIL))

    told = [site.call("run", "--lanes", "1")]
    told += [site.call(verb, *more) for verb, more in VERBS]
    told += [site.call("debag", str(tmp_path / "W1.bag.zip"), "--into", str(tmp_path / "out"))]
    page = site.call("report", "--html", str(tmp_path / "page.html"))

    assert page.returncode == 0, page.stderr
    for ended in told:
        assert OBEYED.findall(ended.stdout + ended.stderr) == [], ended.args
        assert "Traceback" not in ended.stderr
    kept = [path for name in ("report.txt", "report.json") for path in site.home.rglob(name)]
    assert len(kept) == 2
    for log in [*(site.home / "logs").rglob("*.log"), *kept, tmp_path / "page.html"]:
        text = log.read_text(encoding="utf-8")
        assert OBEYED.findall(text) == [], log
        assert "<script>alert" not in text or log.suffix != ".html"
    assert {rid: work.stage for rid, work in site.works().items()} == {"W1": "refused", "W2": "refused"}
    assert not list((site.home / "archive").iterdir())


VERBS = (
    ("status", ()),
    ("status", ("W1", "--json")),
    ("explain", ("W2",)),
    ("explain", ("W2", "--json")),
    ("quarantine", ("show", "W1")),
    ("dead-letters", ("list",)),
    ("report", ("--csv",)),
)


@pytest.mark.parametrize("name", [EVIL, "\U000e0001\ufeff\udc9b\x7f\x85\u2028", "དཔལ་ལྡན་ é 漢字 \U0001f600"])
def test_what_is_written_as_json_is_not_obeyed_and_stays_the_same_value(tmp_path: Path, name: str) -> None:
    durable.write_json(tmp_path / "marker.json", {name: [name]})
    (tmp_path / "W1.digests.json").write_bytes(fixity.dumps(fixity.Fixity("W1", "full", {name: FACTS})))
    for file in tmp_path.iterdir():
        text = file.read_bytes().decode("utf-8")
        assert all(line.isprintable() for line in text.split("\n")), text
        assert (name in text) is name.isprintable()  # names keep their script
    assert json.loads((tmp_path / "marker.json").read_bytes()) == {name: [name]}
    assert fixity.load(tmp_path / "W1.digests.json").files == {name: FACTS}


def test_a_bag_of_another_bucket_is_not_archived_whoever_asks_for_it(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    foreign = f"{site.bucket}-foreign"
    site.s3.create_bucket(Bucket=foreign)
    with bag_zip.open("rb") as body:
        etag = site.s3.put_object(Bucket=foreign, Key="W1.bag.zip", Body=body)["ETag"].strip('"')
    event = site.event("W1.bag.zip", etag, bag_zip.stat().st_size)
    event["s3"]["bucket"]["name"] = foreign
    site.send({"Records": [event]})

    ended = site.call("run", "--lanes", "1")

    assert ended.returncode == 1
    assert not list((site.home / "archive").iterdir())
    (dead,) = site.dead_letters()
    assert foreign in dead["MessageAttributes"]["Reason"]["StringValue"]


def logged(formatter: logging.Formatter) -> str:
    error = ValueError(EVIL)
    caught = (ValueError, error, None)
    return formatter.format(logging.LogRecord("pipeline", logging.ERROR, "x.py", 1, "%s", (EVIL,), caught))


def test_a_log_line_stays_one_and_is_not_obeyed() -> None:
    plain, for_programs = logged(PlainLines("%(levelname)s %(message)s")), logged(JsonLines("lane-1"))

    assert OBEYED.findall(plain + for_programs) == []
    assert [line[:6] for line in plain.splitlines() if not line.startswith("    ")] == ["ERROR ", "ValueE"]
    assert json.loads(for_programs)["message"] == EVIL


def test_no_attribute_of_a_forged_message_reopens_a_refused_bag(site: Site, tmp_path: Path) -> None:
    """Whoever can send messages sees the identity of each, and may know what a dead letter looks like."""
    bag_zip = make_bag_zip(tmp_path, "W1", algorithms=("md5",))
    body = {"Records": [site.event(staging_key("W1"), site.put(bag_zip), bag_zip.stat().st_size)]}
    sent = site.sqs.send_message(QueueUrl=site.queue_url, MessageBody=json.dumps(body))
    site.call("run", "--lanes", "1", PIPELINE_DEBAG_ALLOW_WEAK_DIGESTS="false")

    claims = {"ErrorKind": "invalid-bag", "MessageId": sent["MessageId"], "WorkRid": "W1", "Seal": "0" * 32}
    attributes: Any = {name: {"DataType": "String", "StringValue": value} for name, value in claims.items()}
    site.sqs.send_message(QueueUrl=site.queue_url, MessageBody=json.dumps(body), MessageAttributes=attributes)
    forged = site.call("run", "--lanes", "1")  # allowed by now: tried again, it would come home

    assert forged.returncode == 1
    assert site.works()["W1"].stage == "refused"
    assert site.archived("W1") == {}
    assert site.depth(site.dead_url) == 2


def test_a_size_that_an_event_makes_up_reserves_no_disk(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    etag = site.put(bag_zip)
    site.send({"Records": [site.event(staging_key("W1"), etag, 1 << 50)]})

    ran = site.call("run", "--lanes", "1")

    assert ran.returncode == 0, ran.stderr
    assert [row["size_bytes"] for row in site.rows("bags")] == [bag_zip.stat().st_size]
