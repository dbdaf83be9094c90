"""The contenders of `benchmarks.download`: each brings objects from S3 to a folder, in a process of its own.

Run as a file, `python benchmarks/fetchers.py NAME WHAT URL INTO`, so that it needs nothing but what that contender
needs. The last line of stderr is a JSON document: seconds and CPU seconds of the transfer alone, without the start of
Python and the making of a client, and the most memory. The exit status is 3 if the contender is not installed.
"""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

MISSING = 3
ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"
_AT_ONCE = 8
_SAMPLE_SECONDS = 0.01
_peaks: list[int] = []

Job = Callable[[], None]


def _keys(s3: Any, what: str) -> list[tuple[str, str, int]]:
    """Key, ETag and size of each object; a bag's event tells as much."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{what}/")
    return [
        (thing["Key"], thing["ETag"].strip('"'), thing["Size"]) for page in pages for thing in page.get("Contents", [])
    ]


def ours(what: str, url: str, into: Path, *, at_once: int = 1, verify: str = "manifest", **options: Any) -> Job:
    sys.path.insert(0, str(ROOT))
    download = importlib.import_module("pipeline.download")
    bag = importlib.import_module("pipeline.foundation.work").Bag
    s3 = importlib.import_module("pipeline.foundation.aws").s3_client(region="us-east-1", endpoint_url=url)
    bags = [bag("W1", BUCKET, key, etag=etag, size_bytes=size) for key, etag, size in _keys(s3, what)]
    chosen = download.FetchOptions(verify=download.Verify(verify), **options)

    def one(wanted: Any) -> None:
        download.fetch(s3, wanted, to=into / Path(wanted.key).name, options=chosen)

    def job() -> None:
        if at_once == 1:
            for wanted in bags:
                one(wanted)
            return
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(one, bags))

    return job


def boto3_download_file(what: str, url: str, into: Path) -> Job:
    boto3 = importlib.import_module("boto3")
    s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    keys = _keys(s3, what)

    def job() -> None:
        for key, _, _ in keys:
            s3.download_file(BUCKET, key, str(into / Path(key).name))

    return job


def boto3_at_once(what: str, url: str, into: Path) -> Job:
    boto3 = importlib.import_module("boto3")
    transfer = importlib.import_module("boto3.s3.transfer")
    s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    keys = _keys(s3, what)

    def job() -> None:
        with transfer.create_transfer_manager(s3, transfer.TransferConfig()) as manager:
            for future in [manager.download(BUCKET, key, str(into / Path(key).name)) for key, _, _ in keys]:
                future.result()

    return job


def s5cmd(what: str, url: str, into: Path) -> Job:
    here = str(Path(sys.executable).parent)
    program = shutil.which("s5cmd", path=os.pathsep.join([here, os.environ.get("PATH", os.defpath)]))
    if program is None:
        raise SystemExit(MISSING)
    command = [program, "--endpoint-url", url, "cp", f"s3://{BUCKET}/{what}/*", f"{into}/"]
    return lambda: _run(command)


def _run(command: Sequence[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            _peaks.append(_peak_bytes(process.pid))
            time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)


def _peak_bytes(pid: int) -> int:
    """The most memory a process has had since it became this program; `ru_maxrss` counts what it was before, too."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in told.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(lines[0].split()[1]) if lines else 0


CONTENDERS: dict[str, Callable[[str, str, Path], Job]] = {
    "ours, by default": ours,
    "ours, unverified": partial(ours, durable=False),
    "ours, verified": partial(ours, durable=False, verify="always"),
    "ours, verified, durable": partial(ours, verify="always"),
    "ours, verified, 8 at once": partial(ours, durable=False, verify="always", at_once=_AT_ONCE),
    "boto3 download_file": boto3_download_file,
    "boto3 TransferManager": boto3_at_once,
    "s5cmd": s5cmd,
}
"""By the name in the table. Only ours, verified, compare what came with what S3 has; only ours by default, and durable,
wait for the disk. Ours pin every request, boto3 its ranges."""


def _spent() -> tuple[float, float]:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return time.monotonic(), sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def main() -> None:
    name, what, url, into = sys.argv[1:]
    try:
        job = CONTENDERS[name](what, url, Path(into))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        raise SystemExit(MISSING) from error
    began, cpu_before = _spent()
    job()
    ended, cpu_after = _spent()
    peak = max(_peaks, default=0) or _peak_bytes(os.getpid())
    told = {"seconds": ended - began, "cpu_seconds": cpu_after - cpu_before, "peak_bytes": peak}
    print(json.dumps(told), file=sys.stderr)


if __name__ == "__main__":
    main()
