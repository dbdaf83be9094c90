#!/usr/bin/env python3
"""Brings bags home from cold storage; `run_pipeline.py --help` tells how."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Some of what requirements.txt lists: a Python that has these is one that was meant to run this.
NEEDED = ("boto3", "dotenv", "luigi", "rich", "sqlalchemy")


def prepare_environment() -> None:
    """`.env` and the place of luigi.cfg have to be known before luigi is imported: it reads them while it is."""
    from dotenv import load_dotenv  # noqa: PLC0415  # after the check that it is installed

    load_dotenv(ROOT / ".env")
    os.environ.setdefault("LUIGI_CONFIG_PATH", str(ROOT / "luigi.cfg"))


def use_own_python() -> None:
    """Begin again with the Python of `make venv`, if there is one: so `./run_pipeline.py` and a link to it will do."""
    own = ROOT / ".venv" / "bin" / "python"
    if own.exists() and not Path(sys.prefix).samefile(ROOT / ".venv"):
        os.execv(own, [str(own), *sys.argv])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        use_own_python()
        sys.exit(f"this Python has no {', no '.join(missing)}: run `make venv`, then {ROOT}/run_pipeline.py")
    prepare_environment()
    from pipeline.cli import main

    sys.exit(main(sys.argv[1:]))
