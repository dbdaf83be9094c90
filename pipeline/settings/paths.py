"""How a path that was set is meant."""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent.parent


def from_project(text: str) -> Path:
    """Relative paths are meant from the project's folder, whatever the current one is."""
    return Path(os.path.abspath(_ROOT / Path(text).expanduser()))
