"""Fixtures: the embedded stack once for all tests, and a site of its own for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import embedded
from tests.stack import Site


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded.moto(log=tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture(scope="session")
def luigid_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("luigid")
    with embedded.luigid(state=folder / "state.pickle", log=folder / "luigid.log") as url:
        yield url


@pytest.fixture
def site(tmp_path: Path, moto_url: str, luigid_url: str) -> Site:
    return Site.make(tmp_path / "site", moto_url, luigid_url)
