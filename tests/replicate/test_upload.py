"""Sending: parts, what S3 tells of them, and what is believed."""

import io
import os
import signal
import subprocess
import sys
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from pipeline import replicate
from pipeline.embedded import stack
from pipeline.foundation import fixity
from pipeline.foundation.errors import (
    AccessDenied,
    CredentialsExpired,
    FixityFailed,
    ReplicaConflict,
    ReplicaUnproved,
    Stopping,
    StorageUnreachable,
)
from pipeline.foundation.work import staging_key
from pipeline.replicate import CopyVerdict, Replica, upload
from tests.replicate.test_bag_stream import FILES, KEPT, archived
from tests.world.works import fixity_of, put

KEY = staging_key("W1")

# Another process that sends W1; it tells the id of the upload that it begins.
PROGRAM = """
import sys; from pathlib import Path; from pipeline import replicate
from pipeline.embedded import stack; from pipeline.foundation import fixity
url, bucket, work, digests = sys.argv[1:]
sent = replicate.content(Path(work), fixity.load(Path(digests)))
replica = replicate.Replica("deep", region="us-east-1", bucket=bucket, storage_class="STANDARD")
began = lambda upload_id: print(upload_id, flush=True)
replicate.replicate(stack.clients(url)[0], replica, sent, began=began)
"""


@pytest.fixture
def s3(moto_url: str) -> Any:
    return stack.clients(moto_url)[0]


@pytest.fixture
def replica(s3: Any) -> Replica:
    name = f"second-{uuid.uuid4().hex[:10]}"
    s3.create_bucket(Bucket=name)
    return Replica("deep", region="us-east-1", bucket=name)


class Flipping:
    """A client whose line flips a bit, to a service that refuses nothing."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def upload_part(self, *, Body: bytes, ChecksumSHA256: str, **rest: Any) -> Any:  # noqa: N803  # boto3's names
        del ChecksumSHA256
        told = self._s3.upload_part(Body=Body[:-1] + bytes([Body[-1] ^ 1]), ChecksumAlgorithm="SHA256", **rest)
        return {"ETag": told["ETag"]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)


def test_what_came_flipped_is_found_by_the_checksum_of_the_whole(s3: Any, replica: Replica, tmp_path: Path) -> None:
    with pytest.raises(ReplicaUnproved):
        replicate.replicate(cast("Any", Flipping(s3)), replica, archived(tmp_path))


def test_the_same_content_is_not_sent_again(s3: Any, replica: Replica, tmp_path: Path) -> None:
    sent = archived(tmp_path)
    first = replicate.replicate(s3, replica, sent)
    again = replicate.replicate(s3, replica, sent)
    assert (first.parts_sent, again.parts_sent) == (1, 0)
    assert first.checksum.startswith(again.checksum)


def test_other_content_is_a_new_version_and_without_versions_a_conflict_until_it_is_replaced(
    s3: Any, replica: Replica, tmp_path: Path
) -> None:
    s3.put_object(Bucket=replica.bucket, Key=KEY, Body=b"somebody else's")
    with pytest.raises(ReplicaConflict, match="keeps no versions"):
        replicate.replicate(s3, replica, archived(tmp_path))
    assert s3.head_object(Bucket=replica.bucket, Key=KEY)["ContentLength"] == len(b"somebody else's")

    s3.put_bucket_versioning(Bucket=replica.bucket, VersioningConfiguration={"Status": "Enabled"})
    made = replicate.replicate(s3, replica, replicate.content(tmp_path / "W1", fixity_of(KEPT)))
    assert made.version_id
    assert len(s3.list_object_versions(Bucket=replica.bucket)["Versions"]) == 2

    s3.put_bucket_versioning(Bucket=replica.bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=replica.bucket, Key=KEY, Body=b"somebody else's")
    put_over = replicate.replicate(s3, replica, replicate.content(tmp_path / "W1", fixity_of(KEPT)), replace=True)
    assert put_over.parts_sent == 1


def test_a_file_that_rotted_leaves_no_upload_behind(s3: Any, replica: Replica, tmp_path: Path) -> None:
    sent = archived(tmp_path)
    put(sent.folder, {next(iter(FILES)): b"rotten"})
    with pytest.raises(FixityFailed):
        replicate.replicate(s3, replica, sent)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=replica.bucket)


def test_a_stopped_upload_goes_on_with_its_id_and_one_of_other_content_is_let_go(
    s3: Any, replica: Replica, tmp_path: Path
) -> None:
    sent, ids = archived(tmp_path), list[str]()

    def stop(done: int, _total: int) -> None:
        if done:
            raise Stopping("stopped")

    with pytest.raises(Stopping):
        replicate.replicate(s3, replica, sent, began=ids.append, pulse=stop)
    (upload_id,) = ids
    replicate.replicate(s3, replica, sent, upload_id=upload_id, began=ids.append)
    assert ids == [upload_id]

    place = {"Bucket": replica.bucket, "Key": KEY}
    stale = upload.begin(s3, place)
    upload.begin(s3, place)
    assert not upload.is_open(s3, place, stale)


@pytest.mark.parametrize("part", [1, 2, 3, 4])
def test_killed_at_whatever_part_it_goes_on_and_s3_has_the_object_whole(
    s3: Any, replica: Replica, tmp_path: Path, part: int
) -> None:
    files = {f"images/{number}.tif": os.urandom(6 << 20) for number in range(4)}
    known = fixity_of(files)
    work = put(tmp_path / "W1", files)
    (tmp_path / "digests").write_bytes(fixity.dumps(known))
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, s3.meta.endpoint_url, replica.bucket, work, tmp_path / "digests"],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "PIPELINE_TEST_KILL_AT": f"part {part} sent"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL

    made = replicate.replicate(s3, replica, replicate.content(work, known), upload_id=killed.stdout.strip())

    assert made.parts == 4
    assert made.parts_sent < 4
    with zipfile.ZipFile(io.BytesIO(s3.get_object(Bucket=replica.bucket, Key=KEY)["Body"].read())) as zip_file:
        assert {name: zip_file.read(f"W1.bag/data/{name}") for name in files} == files


def test_a_look_retrieves_nothing_and_tells_what_is_wrong(s3: Any, replica: Replica, tmp_path: Path) -> None:
    made = replicate.replicate(s3, replica, archived(tmp_path))
    place = {"Bucket": replica.bucket, "Key": KEY}

    def look(**other: Any) -> tuple[CopyVerdict, str]:
        told = {"version_id": "", "checksum": made.checksum, "size_bytes": made.size_bytes, **other}
        return replicate.look(s3, place, **told)

    assert look() == (CopyVerdict.PASSED, "")
    assert look(size_bytes=1) == (CopyVerdict.FAILED, f"has {made.size_bytes:,} bytes, not 1")
    assert look(checksum="AAAA-1")[0] is CopyVerdict.FAILED
    s3.put_object(**place, Body=bytes(made.size_bytes))
    assert look()[0] in {CopyVerdict.NO_CHECKSUM, CopyVerdict.FAILED}
    s3.delete_object(**place)
    assert look() == (CopyVerdict.FAILED, "is gone")


@pytest.mark.parametrize(
    ("most_bytes", "parts"), [(1, 8), (10_000 * (8 << 20), 8), (10_000 * (8 << 20) + 1, 9), (1 << 40, 105)]
)
def test_parts_are_as_large_as_ten_thousand_of_them_have_to_be(most_bytes: int, parts: int) -> None:
    assert upload.part_bytes(most_bytes) == parts << 20


class Refusing:
    """A client of which one call fails from the n-th time on, as the service words it."""

    def __init__(self, s3: Any, call: str, code: str, *, after: int = 0) -> None:
        self._s3, self._call, self._code, self._left = s3, call, code, after

    def __getattr__(self, name: str) -> Any:
        return self._refused if name == self._call else getattr(self._s3, name)

    def _refused(self, **told: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            return getattr(self._s3, self._call)(**told)
        raise ClientError({"Error": {"Code": self._code, "Message": "refused"}}, self._call)


@pytest.mark.parametrize(
    ("call", "code", "failure"),
    [
        ("upload_part", "SlowDown", StorageUnreachable),
        ("upload_part", "ExpiredToken", CredentialsExpired),
        ("create_multipart_upload", "AccessDenied", AccessDenied),
        ("create_multipart_upload", "InvalidStorageClass", StorageUnreachable),
        ("head_object", "NoSuchBucket", StorageUnreachable),
        ("complete_multipart_upload", "InternalError", StorageUnreachable),
    ],
)
def test_what_s3_refuses_has_its_name_and_the_next_try_goes_on(
    s3: Any, replica: Replica, tmp_path: Path, call: str, code: str, failure: type[Exception]
) -> None:
    sent, ids = archived(tmp_path), list[str]()
    with pytest.raises(failure):
        replicate.replicate(cast("Any", Refusing(s3, call, code)), replica, sent, began=ids.append)

    made = replicate.replicate(s3, replica, sent, upload_id=ids[0] if ids else "", began=ids.append)

    assert made.parts == 1
    assert len(ids) == 1  # an upload that was begun is gone on with
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=replica.bucket)


class Hanging:
    """A client of which one call is never answered."""

    def __init__(self, s3: Any, call: str) -> None:
        self._s3, self._call = s3, call
        self.reached, self.over = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return self._hang if name == self._call else getattr(self._s3, name)

    def _hang(self, *_: Any, **__: Any) -> Any:
        self.reached.set()
        self.over.wait()
        raise ClientError({"Error": {"Code": "InternalError"}}, self._call)


@pytest.mark.parametrize(
    "call", ["head_object", "get_paginator", "create_multipart_upload", "upload_part", "complete_multipart_upload"]
)
def test_a_stop_does_not_wait_for_what_s3_never_answers(s3: Any, replica: Replica, tmp_path: Path, call: str) -> None:
    hanging = Hanging(s3, call)

    def stop(_done: int, _total: int) -> None:
        if hanging.reached.is_set():
            raise Stopping("stopped")

    try:
        with pytest.raises(Stopping):
            replicate.replicate(cast("Any", hanging), replica, archived(tmp_path), pulse=stop)
    finally:
        hanging.over.set()
    assert "Contents" not in s3.list_objects_v2(Bucket=replica.bucket)
