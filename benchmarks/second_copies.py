"""A second copy side by side with `zip -0` and an upload, in one run against one S3 server on this machine.

`python -m benchmarks.second_copies [--quick]`. Every contender runs in a fresh process, all by turns, the archive in
the page cache; medians. Ours matches every file with its kept digests and compares S3's checksum; the others trust what
they read, and have their client's checksum of each part. What is made goes when the run ends, however it ends.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import contest, peers, seaweed, sync
from benchmarks.contest import Figures
from pipeline import replicate
from pipeline.embedded import embedded
from pipeline.foundation import fixity
from pipeline.foundation.aws import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "second"
MISSING = 3
COMPARED = contest.Comparison("second_copies", ["images"], artist="")
WANTED = sync.Table("2,000 files of 600 KB", 2_000, 600_000)
OURS = "ours"


def ours(work: Path, url: str) -> None:
    known = fixity.load(work.with_name(fixity.digests_name("W1")))
    replica = replicate.Replica("bench", region="us-east-1", bucket=BUCKET, storage_class="STANDARD")
    s3 = s3_client(region="us-east-1", endpoint_url=url, signs_bodies=False)
    replicate.replicate(s3, replica, replicate.content(work, known), replace=True)


def zipped(work: Path, *, into: Path) -> Path:
    subprocess.run(["zip", "-0", "-q", "-r", into / "W1.zip", "."], cwd=work, check=True)
    return into / "W1.zip"


def by_aws(work: Path, url: str) -> None:
    with tempfile.TemporaryDirectory(dir=work.parent) as folder:
        upload = ["aws", "s3", "cp", "--quiet", "--checksum-algorithm", "SHA256", "--endpoint-url", url]
        _run(*upload, str(zipped(work, into=Path(folder))), f"s3://{BUCKET}/aws.zip")


def by_s5cmd(work: Path, url: str) -> None:
    with tempfile.TemporaryDirectory(dir=work.parent) as folder:
        _run("s5cmd", "--endpoint-url", url, "cp", str(zipped(work, into=Path(folder))), f"s3://{BUCKET}/s5cmd.zip")


def _run(*command: str) -> None:
    if not shutil.which(command[0]):
        print(f"{command[0]} is not installed", file=sys.stderr)
        raise SystemExit(MISSING)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


CONTENDERS = {OURS: ours, "zip -0, aws s3 cp": by_aws, "zip -0, s5cmd cp": by_s5cmd}


def main() -> int:
    parser = contest.parser(COMPARED, about=__doc__)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = contest.options(parser) if "--one" not in sys.argv else parser.parse_args()
    if options.one:
        name, work, url = options.one
        CONTENDERS[name](Path(work), url)
        return 0
    wanted = WANTED if not options.quick else sync.Table(WANTED.title, WANTED.files // 10, WANTED.size_bytes)
    with (
        contest.folder("second-copies-bench-", at=options.folder) as folder,
        seaweed.server(folder / "server") as s3,
    ):
        figures = _measured(wanted, folder, s3, options)
    print(f"\n{wanted.title}\n{table(figures)}", flush=True)
    if options.save:
        contest.save(COMPARED, {"images": figures}, options)
    return 0


def _measured(wanted: sync.Table, folder: Path, s3: "S3Client", options: argparse.Namespace) -> dict[str, Figures]:
    work = sync.staged(wanted, folder / "archive")
    s3.create_bucket(Bucket=BUCKET)
    held = contest.Contest(wanted.title)

    def one(name: str, turn: int) -> contest.Run:
        contest.warm(*work.rglob("*.jpg"))
        peers.sync_file_system(folder)
        for thing in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=thing["Key"])
        command = [sys.executable, "-m", "benchmarks.second_copies", "--one", name, str(work), s3.meta.endpoint_url]
        run = contest.measured(
            command,
            patience=options.patience,
            log=folder / f"{turn}.log",
            environment={**embedded.CREDENTIALS, "AWS_DEFAULT_REGION": "us-east-1"},
        )
        return run, contest.spoilt(run, missing=MISSING)

    held.hold(list(CONTENDERS), one, turns=options.runs)
    return held.figures(wanted.files * wanted.size_bytes)


def table(figures: Mapping[str, Figures]) -> str:
    """The figures as Markdown, and how ours compares."""
    lines = ["| | wall s | ours / it | CPU s | ours / it | peak MB |", "|---|--:|--:|--:|--:|--:|"]
    base = figures[OURS]
    for name, of in figures.items():
        if of["verdict"] != "ok":
            lines.append(f"| {name} | {of['verdict']} | | | | |")
            continue
        wall, cpu = (float(base[key]) / float(of[key]) for key in ("wall_seconds", "cpu_seconds"))
        peak = float(of["peak_sum_bytes"]) / 1e6
        lines.append(
            f"| {name} | {contest.seconds(of)} | {wall:.2f} | {of['cpu_seconds']:.2f} | {cpu:.2f} | {peak:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "")
    sys.exit(main())
