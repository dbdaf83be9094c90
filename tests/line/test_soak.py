"""The short form of the soak: see `tests/line/soak.py`."""

import subprocess
import sys
from pathlib import Path

from tests.line.soak import judge, soak


def test_lanes_do_not_grow_with_the_works_they_bring_home(tmp_path: Path, moto_url: str) -> None:
    samples = soak(tmp_path, moto_url, works=80, steps=4)

    assert samples[-1].works == 80
    judge(samples)


_LOG_90_MB = """
import logging, sys
from pipeline.foundation import logs
logs.log_to(sys.argv[1], "lane-1")
for _ in range(9_000):
    logging.getLogger("pipeline.lanes.lane").info("x" * 10_000)
"""


def test_a_log_is_rotated_and_its_oldest_part_goes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LOG_90_MB, str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, check=True, timeout=120)

    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 6
    assert max(sizes) <= 10 << 20
