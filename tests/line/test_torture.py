"""The short form of the torture: see `tests/line/torture.py`."""

import random
from pathlib import Path

from tests.line.torture import Torture


def test_killed_again_and_again_everything_is_home_once_and_nothing_is_left(
    tmp_path: Path, moto_url: str, any_database: str
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}: python -m tests.line.torture --seed {seed} --works 8 --kills 8")  # noqa: T201  # told when it fails

    figures = Torture(tmp_path, moto_url, seed=seed, works=8, kills=8, database_url=any_database).run()

    assert sum(figures.kills.values()) == 8
