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


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    try:
        prepare_environment()
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing}: run `make venv`, then .venv/bin/python run_pipeline.py")
    from pipeline.cli import main

    sys.exit(main(sys.argv[1:]))
