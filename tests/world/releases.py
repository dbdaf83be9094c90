"""A small site as a release left it, in all states and with lanes killed in the middle of works; and today again.

`python -m tests.world.releases FOLDER`, run in a checkout of the release, freezes it: `tables.sql`, its SQLite
database; `site.tar.xz`, staging, quarantine, archive and inbox as they lay, and the zips that S3 has; `words.txt`, what
scripts rely on. `luigi.cfg` is written by hand, with every setting that the release knows. Where it says @HOME@,
@MOTO@, @LUIGID@ and @QUEUE@, each test has its own. All that happened is told two years too early, so that it is past
wherever tests run.
"""

import argparse
import json
import lzma
import os
import re
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import uuid
from contextlib import closing
from pathlib import Path

from pipeline.cli import usage
from pipeline.embedded import embedded, stack
from pipeline.foundation import errors
from pipeline.foundation.work import archive_dir, staging_key
from tests.world.bags import make_bag_zip
from tests.world.stack import ROOT, Site, wait_until

FROZEN = Path(__file__).resolve().parent / "frozen"
BUCKET = "release"
LARGE = {"images/I1/I10001.jpg": bytes(3 << 20)}
SLOW = {
    "PIPELINE_DOWNLOAD_CHUNK_BYTES": str(1 << 20),
    "PIPELINE_DOWNLOAD_CONNECTIONS": "1",
    "PIPELINE_DOWNLOAD_BANDWIDTH_BYTES_PER_SECOND": "500000",
}
PATIENT = {"PIPELINE_QUEUE_BACKOFF_SECONDS": "3600", "PIPELINE_QUEUE_LEASE_SECONDS": "3600"}
"""So that nothing is taken up again before all has happened."""
KILLED = {
    "W1LEASED": "leases taken",
    "W1CAME": "downloaded, not vouched for",
    "W1ZIPPED": "debag published, not recorded",
    "W1BAGGED": "debag published, not recorded",
    "W1COPIED": "sync copied, not committed",
}
"""Works whose lanes were killed, and where."""


def _site(home: Path, moto: str, luigid: str) -> Site:
    """The site; its bucket has the same name ever after, as bags are known by it."""
    s3, sqs = stack.clients(moto)
    queue = f"release-{uuid.uuid4().hex[:10]}"
    url = stack.set_up_aws(s3, sqs, bucket=BUCKET, queue=queue, dead_letters=f"{queue}-dead")
    for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])  # S3's test event
    dead = sqs.get_queue_url(QueueName=f"{queue}-dead")["QueueUrl"]
    return Site(home, moto, luigid, s3, sqs, BUCKET, queue, url, dead, database_url=f"sqlite:///{home}/pipeline.db")


def thaw(release: str, home: Path, *, moto: str, luigid: str) -> Site:
    """The site of a release, with its messages in the queue: those of killed lanes have come back."""
    home.mkdir()
    with tarfile.open(FROZEN / release / "site.tar.xz") as packed:
        packed.extractall(home, filter="data")
    for marker in [*home.glob("staging/*/*/*.json"), *home.glob("quarantine/*/report.*")]:
        marker.write_text(marker.read_text().replace("@HOME@", str(home)))
    for marker in home.glob("staging/*/download/download.json"):
        vouched = json.loads(marker.read_text())  # a tar file has times as floats
        if os.path.exists(vouched["zip"]):
            os.utime(vouched["zip"], ns=(vouched["mtime_ns"], vouched["mtime_ns"]))
    site = _site(home, moto, luigid)
    settings = (FROZEN / release / "luigi.cfg").read_text()
    for name, value in {"@HOME@": str(home), "@MOTO@": moto, "@LUIGID@": luigid, "@QUEUE@": site.queue}.items():
        settings = settings.replace(name, value)
    (home / "luigi.cfg").touch(mode=0o600)
    (home / "luigi.cfg").write_text(settings)
    with closing(sqlite3.connect(home / "pipeline.db")) as database:
        database.executescript((FROZEN / release / "tables.sql").read_text().replace("@HOME@", str(home)))
    for bag_zip in (home / "zips").iterdir():
        site.put(bag_zip)
    frozen = {"Bucket": BUCKET, "Key": staging_key("W1FROZEN")}
    site.s3.copy_object(**frozen, CopySource=frozen, StorageClass="DEEP_ARCHIVE")  # type: ignore[arg-type]  # as typed
    for rid in (*KILLED, "W1HALF"):
        found = site.s3.head_object(Bucket=BUCKET, Key=staging_key(rid))
        event = site.event(staging_key(rid), found["ETag"].strip('"'), found["ContentLength"])
        site.send({"Records": [event]})
    return site


def words(site: Site) -> set[str]:
    """What scripts rely on: verbs with their options and choices, kinds of failure, metrics, names in JSON."""
    verbs = next(one.choices for one in usage.parser()._actions if isinstance(one, argparse._SubParsersAction))
    options = {f"{verb} {word}" for verb, parser in verbs.items() for word in _taken(parser)} | {*verbs}
    raised = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.PipelineError)]
    metrics = re.findall(r"(?m)^\| `(pipeline_\w+)`", (ROOT / "docs" / "metrics.md").read_text())
    told = json.loads(site.call("status", "--json").stdout)
    names = {f"status {name}" for name in told} | {f"status work {name}" for name in told["works"][0]}
    return options | {one.__new__(one).kind for one in raised} | {*metrics} | names


def _taken(parser: argparse.ArgumentParser) -> set[str]:
    """Options and choices, those of the verb's own verbs too."""
    found: set[str] = set()
    for one in parser._actions:
        found |= {*one.option_strings, *(one.choices or ())}
        for inner in one.choices.values() if isinstance(one, argparse._SubParsersAction) else ():
            found |= _taken(inner)
    return found


def freeze(to: Path) -> None:
    """Make the site, and keep it."""
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with (
            embedded.moto(log=work / "moto.log") as moto,
            embedded.luigid(state=work / "state.pickle", log=work / "luigid.log") as luigid,
        ):
            site = _site(work / "home", moto, luigid)
            site.write_settings()
            site.settings = PATIENT
            _happen(site, work)
            _keep(site, to)
            (to / "words.txt").write_text("".join(f"{one}\n" for one in sorted(words(site))))


def _happen(site: Site, work: Path) -> None:
    zips, inbox = site.home / "zips", site.home / "inbox"
    script = work / "fails.sh"
    script.write_text("exit 7\n")
    inbox.mkdir()
    (site.home / "archive").mkdir()
    with (site.home / "luigi.cfg").open("a") as settings:
        settings.write(f"[source dropped]\nkind = folder\npath = {inbox}\nsettle_seconds = 0\n")

    def run(rid: str, *, corrupt: str = "", **settings: str) -> None:
        site.announce(make_bag_zip(zips, rid, corrupt=corrupt))
        sys.stderr.write(site.call("run", "--lanes", "1", **settings).stderr)

    image = "images/I1/I10001.jpg"
    run("W1HOME")
    run("W1ROTTEN")
    (archive_dir(site.home / "archive", "W1ROTTEN") / image).write_bytes(b"rotten")
    site.call("verify", "W1ROTTEN")
    run("W1REFUSED", corrupt=image)
    run("W1SUPERSEDED", corrupt=image)
    run("W1SUPERSEDED")
    site.announce(make_bag_zip(zips, "W1GONE"))
    site.s3.delete_object(Bucket=BUCKET, Key=staging_key("W1GONE"))
    (zips / "W1GONE.bag.zip").unlink()
    site.send("no event of S3")
    run("W1FAILED", PIPELINE_SYNC_SCRIPT=str(script))
    run("W1SKIPPED", PIPELINE_SYNC_SCRIPT=str(script))
    site.call("skip", "W1SKIPPED", "--reason", "withdrawn", "--yes")
    site.put(make_bag_zip(zips, "W1FROZEN"))
    frozen = {"Bucket": BUCKET, "Key": staging_key("W1FROZEN")}
    site.s3.copy_object(**frozen, CopySource=frozen, StorageClass="DEEP_ARCHIVE")  # type: ignore[arg-type]  # as typed
    site.call("work", "W1FROZEN", "--local-scheduler")
    for rid, instant in KILLED.items():
        run(rid, PIPELINE_TEST_KILL_AT=instant)
    (unpacked,) = site.home.glob("staging/W1ZIPPED-*/debag")
    shutil.rmtree(unpacked)
    site.announce(make_bag_zip(zips, "W1HALF", files=LARGE))
    lane = site.start("run", "--lanes", "1", "--local-scheduler", **SLOW)
    wait_until(
        lambda: any('"chunk": 0' in one.read_text() for one in site.home.glob("staging/W1HALF-*/download/*.journal"))
    )
    lane.kill()
    lane.communicate()
    shutil.copy(make_bag_zip(zips, "W1DROPPED"), inbox)
    site.call("run", "--lanes", "1", PIPELINE_TEST_KILL_AT="zip claimed")
    (zips / "W1DROPPED.bag.zip").unlink()
    site.call("pause", "--reason", "an upgrade")


def _keep(site: Site, to: Path) -> None:
    def earlier(text: str) -> str:
        return re.sub(r"\b2026-", "2024-", text.replace(str(site.home), "@HOME@"))

    to.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(site.home / "pipeline.db")) as database:
        (to / "tables.sql").write_text(earlier("\n".join(database.iterdump()) + "\n"))
    for marker in [*site.home.glob("staging/*/*/*.json"), *site.home.glob("quarantine/*/report.*")]:
        times = marker.stat().st_atime_ns, marker.stat().st_mtime_ns
        marker.write_text(earlier(marker.read_text()))
        os.utime(marker, ns=times)
    with lzma.open(to / "site.tar.xz", "w", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("archive", "inbox", "quarantine", "staging", "zips"):
            tar.add(site.home / name, name, filter=_nobodys)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    freeze(Path(sys.argv[1]))
