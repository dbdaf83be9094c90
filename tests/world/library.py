"""An archive with its record, and no more: no queue, no scheduler."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import settings
from pipeline.foundation.work import Bag
from pipeline.record import stories
from pipeline.tasks import context as site_module
from tests.world import warm
from tests.world.bags import SMALL_WORK
from tests.world.works import Home

IMAGE = "images/I1/I10001.jpg"


@dataclass
class Library:
    """An archive with its record, and no more: no queue, no scheduler."""

    home: Home
    here: site_module.Site
    environment: dict[str, str]

    def bring_home(self, rid: str, files: dict[str, bytes] | None = None) -> Path:
        """A work, archived and recorded."""
        self.home.stage(rid, files=files or SMALL_WORK)
        synced = self.home.archive(rid)
        bag = Bag(rid, "bucket", f"{rid}.bag.zip", etag=f"e{time.monotonic_ns()}")
        self.here.record.see(bag)
        assert self.here.leases.take(rid, bag.bag_id)
        self.here.record.commit_sync(
            bag,
            rid,
            archive_path=str(synced.path),
            files=3,
            size_bytes=9,
            facts=synced.facts(),
            leases=self.here.leases,
        )
        self.here.leases.release(rid)
        return synced.path

    def start(self, *arguments: str, verb: str = "verify") -> "subprocess.Popen[str]":
        return warm.start([verb, *arguments], environment=self.environment)

    def call(self, *arguments: str, status: int = 0, verb: str = "verify") -> str:
        """Its standard output; for a status of 2 or more also what it complained."""
        ended = warm.ended(self.start(*arguments, verb=verb))
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr if status > 1 else ended.stdout

    def report(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        document = json.loads(self.call(*arguments, "--json", status=status))
        assert isinstance(document, dict)
        return document

    def verdicts(self, *arguments: str, status: int = 0) -> dict[str, str]:
        return {work["work_rid"]: work["verdict"] for work in self.report(*arguments, status=status)["works"]}

    def checks(self, rid: str) -> list[dict[str, Any]]:
        """The fixity checks of a work in the record."""
        told = stories.story(self.here.engine, rid)
        return [event for event in (told.events if told else ()) if event["step"] == "verify"]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    home = Home(tmp_path)
    variables = {
        "PIPELINE_PIPELINE_STAGING": str(home.staging),
        "PIPELINE_PIPELINE_LOGS": str(home.logs),
        "PIPELINE_PIPELINE_ARCHIVE_ROOT": str(home.root),
        "PIPELINE_DATABASE_URL": f"sqlite:///{tmp_path}/pipeline.db",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    here = site_module.Site(settings.load(), lane="test")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
    yield Library(home, here, {**inherited, **variables})
    here.engine.dispose()
