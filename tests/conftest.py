"""Fixtures: the embedded stack once for all tests, and a site of its own for each test that asks for one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline import record
from pipeline import settings as settings_module
from pipeline.embedded import embedded
from pipeline.record import Record
from pipeline.tasks import context as site_module
from tests.world import servers, ways_on
from tests.world.attacker import place, victim
from tests.world.library import library
from tests.world.receivers import mailbox, webhook
from tests.world.stack import ROOT, Site
from tests.world.warm import WARM

__all__ = ["library", "mailbox", "place", "victim", "webhook"]  # fixtures
# A .env beside run_pipeline.py may name a real archive, and a real database.
os.environ["PYTHON_DOTENV_DISABLED"] = "1"
# As run_pipeline.py sets it: Luigi's settings are one for a process, and read anew where a file is named. Those of a
# test that named its site's own would be everybody's after it otherwise.
os.environ["LUIGI_CONFIG_PATH"] = str(ROOT / "luigi.cfg")


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as CPUs: half of the time a test waits, for a queue, a lease, or a disk."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the longest tests: last, they would be waited for."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    waiting = [item for item in items if item.path.stem.startswith(("test_frozen", "test_campaign"))]
    others = [item for item in items if item not in waiting]
    share = -(-len(others) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in (*waiting[worker::workers], *others[worker * share : (worker + 1) * share])
    ]


@pytest.fixture(scope="session", autouse=True)
def warm_process() -> Iterator[None]:
    """What forks calls of `run_pipeline.py` ends with the tests."""
    yield
    WARM.end()


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded.moto(log=tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture(scope="session")
def luigid_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("luigid")
    with embedded.luigid(state=folder / "state.pickle", log=folder / "luigid.log") as url:
        yield url


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing in them."""
    path = tmp_path_factory.mktemp("database") / "pipeline.db"
    engine = record.connect(f"sqlite:///{path}")
    record.prepare(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str | None]:
    with servers.folder() as folder, servers.postgresql(folder) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str | None]:
    with servers.folder() as folder, servers.mariadb(folder) as url:
        yield url


def _server(request: pytest.FixtureRequest) -> str:
    url: str | None = request.getfixturevalue(f"{request.param}_url")
    if url is None:
        pytest.skip(f"the {request.param} server is not installed; .ci/run installs it")
    return url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, on each of the three kinds that are promised."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/pipeline.db"
        return
    with servers.empty_database(_server(request)) as empty:
        yield empty


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_tables(request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> Iterator[str]:
    """The URL of a database of each kind, with its tables and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(database, tmp_path / "pipeline.db")
        yield f"sqlite:///{tmp_path}/pipeline.db"
        return
    with servers.database_with_tables(_server(request)) as url:
        yield url


@pytest.fixture(params=["postgresql", "mariadb"])
def tables_on_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `any_tables`, where there is a server."""
    with servers.database_with_tables(_server(request)) as url:
        yield url


@pytest.fixture
def engine(any_tables: str) -> Iterator[Engine]:
    """A database of each kind, with its tables and nothing in them."""
    engine = record.connect(any_tables)
    yield engine
    engine.dispose()


@pytest.fixture
def book(engine: Engine) -> Record:
    """The record in it, as a lane writes it."""
    return Record(engine, agent="host/1/1", host="host")


@pytest.fixture
def site(tmp_path: Path, moto_url: str, luigid_url: str, database: Path) -> Iterator[Site]:
    """A site of a test; whatever failed in it tells a way on that can be typed."""
    made = Site.make(tmp_path / "site", moto_url, luigid_url, database=database)
    yield made
    ways_on.see_recorded(made.home / "pipeline.db")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[site_module.Site]:
    """A site of this process, on folders of its own; no scheduler, no AWS."""
    for name in ("staging", "quarantine", "logs", "archive_root"):
        monkeypatch.setenv(f"PIPELINE_PIPELINE_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", f"sqlite:///{tmp_path}/pipeline.db")
    opened = site_module.open_site(settings_module.load())
    yield opened
    opened.engine.dispose()
    site_module._current = None
