#!/usr/bin/env python3
"""Brings bags home from cold storage; `run_pipeline.py --help` tells how."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    from pipeline.foundation import start

    start.stop_at_once_on_signals(sys.argv)  # first of all
    start.begin()
    from pipeline.cli.main import main

    sys.exit(main(sys.argv[1:], imported=start.interruptible))
