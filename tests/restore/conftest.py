"""A bucket in cold storage, and a line that knows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.tasks import context
from tests.world.cold_line import open_line
from tests.world.cold_s3 import ColdS3, cold_s3


@pytest.fixture
def cold() -> Iterator[ColdS3]:
    with cold_s3() as made:
        yield made


@pytest.fixture
def line(tmp_path: Path, cold: ColdS3, database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[context.Site]:
    opened = open_line(tmp_path, cold, database, monkeypatch)
    yield opened
    opened.engine.dispose()
