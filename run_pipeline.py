#!/usr/bin/env python3
"""Brings bags home from cold storage; `run_pipeline.py --help` tells how."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


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
    try:
        prepare_environment()
    except ModuleNotFoundError as missing:
        use_own_python()
        sys.exit(f"{missing}: run `make venv`, then .venv/bin/python run_pipeline.py")
    from pipeline.cli import main

    sys.exit(main(sys.argv[1:]))
