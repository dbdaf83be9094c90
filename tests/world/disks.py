"""Small file systems of their own, which fill up, or may not be written to; root alone can make them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, kind: str, options: str = "rw") -> Iterator[Path]:
    """A file system of its own, for as long as the block runs."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", kind, "-o", options, kind, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"root may not mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
