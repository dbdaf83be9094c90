"""What happens in docs/operations.md besides what the operator types: each sentence there is done to the world here.

The next fault: a chapter in the document, and a function here for each of its sentences that is new. What a sentence
leaves open is a group of its pattern, and an argument of its function.
"""

import shutil
from datetime import UTC, datetime, timedelta

from pipeline.foundation.work import archive_dir, staging_key
from tests.world import faulty
from tests.world.bags import make_bag_zip
from tests.world.folders import add_folder, drop
from tests.world.session import Happenings, Session
from tests.world.works import put

HAPPENINGS = Happenings()
when = HAPPENINGS.when
IMAGE = "images/I1/I10001.jpg"
MARKER = ".mounted"

_AWS = """\
#!/usr/bin/env python3
# The one call of Amazon's command line that is needed here, made to the embedded S3.
import argparse, json, os, boto3
parser = argparse.ArgumentParser(prog="aws", allow_abbrev=False)
parser.add_argument("words", nargs=2)
for name in ("--region", "--bucket", "--key", "--restore-request"):
    parser.add_argument(name, required=True)
asked = parser.parse_args()
assert asked.words == ["s3api", "restore-object"], asked.words
s3 = boto3.client("s3", region_name=asked.region, endpoint_url=os.environ["EMBEDDED_S3"])
s3.restore_object(Bucket=asked.bucket, Key=asked.key, RestoreRequest=json.loads(asked.restore_request))
"""


def run(day: Session, **settings: str) -> None:
    """A run, as cron starts it."""
    day.site.call("run", "--lanes", "1", **{**day.environment, **settings})


def call_dead_letter(day: Session, name: str) -> None:
    (letter,) = day.site.dead_letters()
    day.names[letter["MessageId"]] = name


@when(r"The next run takes place\.")
def the_next_run(day: Session) -> None:
    run(day)


@when(r"(W\w+) comes back from Glacier, and a run takes it up\.")
def restored(day: Session, rid: str) -> None:
    day.site.announce(make_bag_zip(day.folder, rid))
    run(day)


@when(r"(W\w+) comes back from Glacier\.")
def announced(day: Session, rid: str) -> None:
    day.site.announce(make_bag_zip(day.folder, rid))


# 1. a damaged bag


@when(r"(W\w+) comes back from Glacier with one bit wrong, and a run takes it up\.")
def restored_damaged(day: Session, rid: str) -> None:
    day.site.announce(make_bag_zip(day.folder, rid, corrupt=IMAGE))
    run(day)


@when(r"A mended bag of (W\w+) is put to S3 and announced; the next run takes it up\.")
def mended(day: Session, rid: str) -> None:
    restored(day, rid)


# 2. other content in the archive


@when(r"The archive has an older scan under the name of one of (W\w+)'s images\.")
def older_scan(day: Session, rid: str) -> None:
    put(archive_dir(day.site.home / "archive", rid), {IMAGE: b"an older scan"})


# 3. a message that is none


@when(r"Somebody's script sends its own message, (\S+), to the queue; a run takes it\.")
def no_event(day: Session, name: str) -> None:
    day.site.send({"job": "reindex", "work": "W3"})
    run(day)
    call_dead_letter(day, name)


# 4. an archive that is not mounted


@when(r"The disk with the archive is away after a restart of the host\.")
def unmounted(day: Session) -> None:
    archive, away = day.site.home / "archive", day.site.home / "disk"
    put(archive / "Archive0", {MARKER: b""})
    archive.rename(away)
    (archive / "Archive0").mkdir(parents=True)  # the bare mount point
    day.site.settings["PIPELINE_SYNC_MOUNT_MARKER"] = MARKER


@when(r"She mounts it\.")
def mounted_again(day: Session) -> None:
    archive = day.site.home / "archive"
    (archive / "Archive0").rmdir()
    archive.rmdir()
    (day.site.home / "disk").rename(archive)


# 5. a sync script that fails


@when(r"The web server that the site's own sync script copies to refuses its login\.")
def script_fails(day: Session) -> None:
    script = day.site.home / "sync-with-web.sh"
    script.write_text('echo "rsync: web.example.org: login refused" >&2\nexit 12\n', encoding="utf-8")
    day.site.settings["PIPELINE_SYNC_SCRIPT"] = str(script)


@when(r"The web server takes the login again\.")
def script_works(day: Session) -> None:
    del day.site.settings["PIPELINE_SYNC_SCRIPT"]


# 6. a full disk


@when(r"Somebody has filled the staging disk\. The restored copy of (W\w+) ends in 5 hours; a run takes it up\.")
def staging_full(day: Session, rid: str) -> None:
    free = shutil.disk_usage(day.site.home).free
    day.site.settings["PIPELINE_PIPELINE_MARGIN_BYTES"] = str(free + (20 << 30))  # as good as a full one
    bag_zip = make_bag_zip(day.folder, rid)
    event = day.site.event(staging_key(rid), day.site.put(bag_zip), bag_zip.stat().st_size)
    ends = (datetime.now(UTC) + timedelta(hours=5)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event["glacierEventData"] = {"restoreEventData": {"lifecycleRestorationExpiryTime": ends}}
    day.site.send({"Records": [event]})
    run(day)


@when(r"She makes room\.")
def staging_cleared(day: Session) -> None:
    del day.site.settings["PIPELINE_PIPELINE_MARGIN_BYTES"]


# 7. rot


@when(r"In the archive, a bit of (W\w+) rots\.")
def rot(day: Session, rid: str) -> None:
    file = archive_dir(day.site.home / "archive", rid) / IMAGE
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


# 8. rights


@when(r"A new policy of the bucket leaves the pipeline out\.")
def denied(day: Session) -> None:
    def fault(_method: str, path: str) -> str:
        return "AccessDenied" if day.site.bucket in path else ""

    url = day.until_end.enter_context(faulty.faulty(day.site.moto_url, fault))
    day.site.settings["PIPELINE_SOURCE_TEST_ENDPOINT_URL"] = url


@when(r"The policy is put right\.")
def granted(day: Session) -> None:
    del day.site.settings["PIPELINE_SOURCE_TEST_ENDPOINT_URL"]


# 9. a restored copy that ended


@when(r"The restored copy of (W\w+) ends before a run takes it up\.")
def frozen_again(day: Session, rid: str) -> None:
    day.site.announce(make_bag_zip(day.folder, rid))
    day.site.s3.copy_object(
        Bucket=day.site.bucket,
        Key=staging_key(rid),
        CopySource={"Bucket": day.site.bucket, "Key": staging_key(rid)},
        StorageClass="DEEP_ARCHIVE",
    )
    program = put(day.site.home / "bin", {"aws": _AWS.encode()}) / "aws"
    program.chmod(0o755)
    day.site.settings["EMBEDDED_S3"] = day.site.moto_url
    run(day)


@when(r"Twelve hours later S3 has restored (W\w+) and says so; a run takes it up\.")
def thawed(day: Session, rid: str) -> None:
    told = day.site.s3.head_object(Bucket=day.site.bucket, Key=staging_key(rid))
    assert "Restore" in told, "nobody asked S3 for the restore"
    event = day.site.event(staging_key(rid), told["ETag"].strip('"'), told["ContentLength"])
    day.site.send({"Records": [event]})
    run(day)


# 10. a zip that says not what it is


@when(r"Somebody drops the bag of (W\w+) into the folder under the name (\S+); a run takes it\.")
def dropped(day: Session, rid: str, name: str) -> None:
    inbox = add_folder(day.site)
    for setting in [name for name in day.site.settings if name.startswith("PIPELINE_QUEUE_")]:
        del day.site.settings[setting]  # a lease of seconds is none on a busy machine
    drop(make_bag_zip(day.folder, rid), inbox, name)
    run(day)
