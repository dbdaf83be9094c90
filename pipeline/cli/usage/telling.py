"""The verbs with which a pipeline is watched from outside: report, metrics, notify; and the completion of shells."""

import argparse
from pathlib import Path

from pipeline.cli.usage.verb import DATABASE, SOURCES, Verb
from pipeline.foundation.arguments import moment


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=Path, metavar="FILE", help="one page that needs nothing else")
    parser.add_argument(
        "--csv", nargs="?", const="-", metavar="FILE", help="the works as a table; to stdout, or a file"
    )
    parser.add_argument(
        "--since", type=moment, default="30d", metavar="WHEN", help="7d, 12h, 2026-11-01 (UTC); default: 30d"
    )


def _metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--textfile", type=Path, metavar="FILE", help="written once, for the node exporter")
    parser.add_argument("--listen", metavar="[HOST:]PORT", help="answers until stopped; on loopback, without a HOST")


def _notify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test", action="store_true", help="send a sample through each channel")
    parser.add_argument("--watch", action="store_true", help="keep going until stopped")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="whose script is printed")


VERBS = (
    Verb(
        "report",
        "what a time came to: a page with pictures, or a table",
        ("report --html /srv/www/pipeline.html --since 7d", "report --csv --since 2026-11-01 > works.csv"),
        about="Needs what requirements-report.txt lists for --html.",
        options=_report,
        exits={0: "it was written", 1: ""},
    ),
    Verb(
        "metrics",
        "figures for Prometheus",
        ("metrics --listen 9108", "metrics --textfile /var/lib/node_exporter/pipeline.prom"),
        about="Works by outcome, bytes, durations of steps, queues, lanes, fixity checks, disks. One of --textfile and "
        "--listen is needed.",
        options=_metrics,
        exits={0: "it was written, or stopped; pipeline_up tells what answers", 1: "", 3: ""},
        reads=(DATABASE, SOURCES, "`[pipeline]`: staging, quarantine, archive"),
        see=("metrics.md",),
    ),
    Verb(
        "notify",
        "tell operators what is new, by mail and webhook",
        ("notify", "notify --test", "notify --watch"),
        about="Failures, dead letters (also those that SQS moved by itself), restores that expire soon, a daily "
        "digest: one message where a hundred would do. From cron every five minutes, or with --watch as a service.",
        options=_notify,
        exits={
            0: "what was due is sent",
            1: "",
            2: "wrong usage or settings, or no channel is set",
            3: "a channel did not take its message",
        },
        reads=(DATABASE, SOURCES, "`[notify]`, and the files of its secrets"),
        see=("notifications.md",),
    ),
    Verb(
        "completion",
        "a script that completes this command line in bash, zsh or fish",
        (
            "completion bash > ~/.local/share/bash-completion/completions/run_pipeline.py",
            'completion zsh > "${fpath[1]}/_run_pipeline.py"',
            "completion fish > ~/.config/fish/completions/run_pipeline.py.fish",
        ),
        about="Verbs, actions, options, choices and files. The folder has to be there (`mkdir -p`), and for bash "
        "Debian's package bash-completion. Print the script anew after a new release. Under whatever path the command "
        "is called it is completed, but not as `python …`.",
        options=_completion,
        exits={0: "it was printed", 1: "", 3: ""},
        reads=("nothing",),
    ),
)
