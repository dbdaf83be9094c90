"""The short form of the soak: see `tests/soak.py`."""

from pathlib import Path

from tests.soak import judge, soak


def test_lanes_do_not_grow_with_the_works_they_bring_home(tmp_path: Path, moto_url: str) -> None:
    samples = soak(tmp_path, moto_url, works=80, steps=4)

    assert samples[-1].works == 80
    judge(samples)
