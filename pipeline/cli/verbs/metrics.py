"""`run_pipeline.py metrics --textfile FILE|--listen [HOST:]PORT`: figures for Prometheus."""

import math
from argparse import Namespace

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from pipeline.foundation import durable, guarded
from pipeline.foundation.errors import UsageError
from pipeline.foundation.signals import StopFlag, stopping_on_signals
from pipeline.operations.metrics import Collector
from pipeline.tasks import context


def main(options: Namespace) -> int:
    """Write the figures once, or answer whoever asks for them until stopped.

    Raises:
        UsageError: neither or both were asked for, or the file or address cannot be used.
    """
    if bool(options.textfile) == bool(options.listen):
        raise UsageError("one of --textfile FILE and --listen [HOST:]PORT is needed")
    registry = CollectorRegistry()
    # Described by asking nobody: the first scrape counts, not the registration.
    registry.register(_Described(Collector(context.open_site(lane="metrics"))))
    if options.textfile:
        try:
            durable.write_file(guarded.behind_our_links(options.textfile), generate_latest(registry))
        except OSError as error:
            raise UsageError(f"{options.textfile}: {error.strerror}") from error
        return 0
    host, _, port = options.listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host or "127.0.0.1", registry=registry)
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"--listen {options.listen}: {error}") from error
    over = StopFlag()
    with stopping_on_signals(over.set):
        over.wait(math.inf)
    server.shutdown()
    thread.join()
    return 0


class _Described:
    def __init__(self, collector: Collector) -> None:
        self.collect = collector.collect

    def describe(self) -> list[object]:
        return []
