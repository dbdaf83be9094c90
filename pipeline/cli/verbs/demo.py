"""`run_pipeline.py demo`: the whole pipeline on an embedded stack, with sample bags."""

from argparse import Namespace

from pipeline.embedded import demo
from pipeline.foundation.errors import UsageError


def main(options: Namespace) -> int:
    """Run it; 0 when all happened as told.

    Raises:
        UsageError: fewer than two bags leave nothing to show.
    """
    if options.bags < 2:
        raise UsageError("--bags: at least 2, one of them is the corrupt one")
    return demo.run(
        demo.Choices(
            home=options.home, bags=options.bags, size_bytes=options.size, lanes=options.lanes, keep=options.keep
        )
    )
