"""One object of S3, whole and pinned, into one file."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import download
from pipeline.foundation.errors import NoRoom, NotRestored, ObjectGone, ObjectReplaced, PipelineError, Stopping
from pipeline.foundation.work import Bag
from tests.world.faulty_s3 import faulty_s3
from tests.world.stack import Site

ALWAYS = download.FetchOptions(verify=download.Verify.ALWAYS)
CONTENT = bytes(range(256)) * 20_000  # 5.12 MB: more than one part of 5 MiB is not needed to see one


def put(site: Site, content: bytes = CONTENT, *, key: str = "a/W1.bag.zip") -> Bag:
    etag = site.s3.put_object(Bucket=site.bucket, Key=key, Body=content)["ETag"].strip('"')
    return Bag("W1", site.bucket, key, etag=etag, size_bytes=len(content))


def test_the_file_appears_whole_under_its_name_and_no_part_is_left(site: Site, tmp_path: Path) -> None:
    fetched = download.fetch(site.s3, put(site), to=tmp_path / "d" / "W1.bag.zip", options=ALWAYS)

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified == "etag-md5"
    download.settle(fetched.path)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["W1.bag.zip"]


def test_an_empty_object_is_an_empty_file(site: Site, tmp_path: Path) -> None:
    assert download.fetch(site.s3, put(site, b""), to=tmp_path / "z").size_bytes == 0


def test_a_multipart_object_is_verified_by_the_digests_of_its_parts(site: Site, tmp_path: Path) -> None:
    part = 5 << 20
    content = CONTENT * 3
    key = "a/W1.bag.zip"
    upload = site.s3.create_multipart_upload(Bucket=site.bucket, Key=key)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(content), part), 1):
        answer = site.s3.upload_part(
            Bucket=site.bucket, Key=key, UploadId=upload, PartNumber=number, Body=content[start : start + part]
        )
        parts.append({"ETag": answer["ETag"], "PartNumber": number})
    site.s3.complete_multipart_upload(
        Bucket=site.bucket,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]  # built in a loop
    )
    bag = download.identify(site.s3, Bag("W1", site.bucket, key))
    assert bag.etag.endswith("-3")

    fetched = download.fetch(site.s3, bag, to=tmp_path / "z", options=ALWAYS)

    assert fetched.verified == "etag-md5-of-parts"
    assert fetched.path.read_bytes() == content


def test_a_frozen_object_is_not_restored(site: Site, tmp_path: Path) -> None:
    etag = site.s3.put_object(Bucket=site.bucket, Key="k", Body=b"x", StorageClass="DEEP_ARCHIVE")["ETag"].strip('"')

    with pytest.raises(NotRestored, match="frozen"):
        download.fetch(site.s3, Bag("W1", site.bucket, "k", etag=etag), to=tmp_path / "z")

    assert list(tmp_path.glob("z*")) == []


def test_an_object_that_is_not_there_is_gone(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ObjectGone):
        download.fetch(site.s3, Bag("W1", site.bucket, "nowhere", etag="e"), to=tmp_path / "z")


def test_an_object_that_was_overwritten_is_replaced_not_mixed(site: Site, tmp_path: Path) -> None:
    bag = put(site)
    put(site, b"other")

    with pytest.raises(ObjectReplaced):
        download.fetch(site.s3, bag, to=tmp_path / "z")

    assert list(tmp_path.glob("z*")) == []


def test_a_stop_half_way_leaves_nothing_under_the_final_name(site: Site, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert 0 <= done <= total == len(CONTENT)
        raise Stopping("enough")

    with pytest.raises(Stopping):
        download.fetch(site.s3, put(site), to=tmp_path / "z", pulse=stop)

    assert not (tmp_path / "z").exists()


def test_a_local_zip_is_known_by_its_digest_and_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "W1.bag.zip"
    path.write_bytes(CONTENT)
    bag = download.identify_local(path, "W1")

    assert (bag.etag, bag.size_bytes) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert download.adopt(bag).path == path
    path.write_bytes(b"changed")
    with pytest.raises(ObjectReplaced, match="changed"):
        download.adopt(bag)
    with pytest.raises(ObjectGone):
        download.identify_local(tmp_path / "nowhere.zip", "W1")


def test_no_room_is_found_before_a_byte_is_paid_for(tmp_path: Path) -> None:
    with faulty_s3(CONTENT, claimed_bytes=1 << 55) as s3, pytest.raises(NoRoom, match="make room"):
        download.fetch(s3.client(), s3.bag, to=tmp_path / "z")

    assert s3.gets() == []
    assert list(tmp_path.iterdir()) == []


def test_the_version_pins_where_the_event_tells_one(site: Site, tmp_path: Path) -> None:
    site.s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = site.s3.put_object(Bucket=site.bucket, Key="k", Body=CONTENT)
    site.s3.put_object(Bucket=site.bucket, Key="k", Body=b"newer")
    bag = Bag("W1", site.bucket, "k", etag=first["ETag"].strip('"'), version_id=first["VersionId"])

    fetched = download.fetch(site.s3, bag, to=tmp_path / "z")

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.version_id == first["VersionId"]
    with pytest.raises(PipelineError):
        download.fetch(site.s3, replace(bag, version_id="nowhere"), to=tmp_path / "y")


def test_a_download_goes_on_with_the_version_that_is_there_when_the_same_bytes_were_put_again(
    site: Site, tmp_path: Path
) -> None:
    site.s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = site.s3.put_object(Bucket=site.bucket, Key="k", Body=CONTENT)
    bag = Bag("W1", site.bucket, "k", etag=first["ETag"].strip('"'), version_id=first["VersionId"])
    download.fetch(site.s3, bag, to=tmp_path / "z", options=ALWAYS)
    (tmp_path / "z").write_bytes(bytes(len(CONTENT)))  # as after a power cut: the journal claims what is not there
    second = site.s3.put_object(Bucket=site.bucket, Key="k", Body=CONTENT)
    site.s3.delete_object(Bucket=site.bucket, Key="k", VersionId=first["VersionId"])

    fetched = download.fetch(site.s3, replace(bag, version_id=second["VersionId"]), to=tmp_path / "z")

    assert fetched.path.read_bytes() == CONTENT
    assert fetched.version_id == second["VersionId"]
