"""`run_pipeline.py run`: process what waits in all sources, then exit; with `--watch`, keep going."""

import logging
from argparse import Namespace
from dataclasses import replace

from pipeline import settings
from pipeline.foundation import logs
from pipeline.foundation.errors import SettingsError
from pipeline.foundation.work import human_count
from pipeline.lanes import processes
from pipeline.settings import Settings

_log = logging.getLogger("pipeline.run")


def main(options: Namespace) -> int:
    """Start the lanes and tell in the end what they did.

    Raises:
        SettingsError: settings are missing or wrong; nothing was started.
    """
    chosen = settings.load(working=True)
    if options.lanes:
        chosen = replace(chosen, lanes=options.lanes)
    if not (chosen.sources or chosen.folders):
        raise SettingsError(
            ["no source is set: luigi.cfg needs a section [source NAME] with region, bucket and queue, or with a path"]
        )
    how = processes.RunOptions(
        lanes=chosen.lanes, watch=options.watch, local_scheduler=options.local_scheduler, verbose=options.verbose
    )
    logs.log_to(chosen.lane_logs, "run", verbose=options.verbose, json_lines=chosen.log_json)
    _tell_start(chosen, how)
    in_one_process = how.lanes == 1 and how.local_scheduler
    summary = processes.run_here(chosen, how) if in_one_process else processes.Lanes(chosen, how).run()
    _log.info("ended: %d done, %d failed", summary.done, summary.failed)
    return summary.exit_status


def _tell_start(chosen: Settings, how: processes.RunOptions) -> None:
    _log.info(
        "%s: %s, sources %s, scheduler %s",
        "watching" if how.watch else "running until the sources are empty",
        human_count(how.lanes, "lane"),
        ", ".join(
            [
                *(f"{source.name} ({source.queue})" for source in chosen.sources),
                *(f"{folder.name} ({folder.path})" for folder in chosen.folders),
            ]
        ),
        "local" if how.local_scheduler else chosen.scheduler.shown,
    )
