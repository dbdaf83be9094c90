"""`run_pipeline.py setup-aws [SOURCE…]`: what the sources need on AWS; `--policy ROLE`: the rights that it takes."""

from argparse import Namespace

from pipeline import settings
from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import human_count
from pipeline.operations import show
from pipeline.operations.setup_aws import SetUp, carry_out, of_replica
from pipeline.settings import Replica, Settings, Source, rights


def main(options: Namespace) -> int:
    """Show what would be changed, ask, and change it.

    Raises:
        UsageError: there is no such source, or nobody agreed.
        PipelineError: AWS refuses, or something of somebody else's is in the way; nothing was changed of any source, if
            it is found before the question.
    """
    chosen = settings.load()
    if options.policy == "replica" and not chosen.replicas:
        raise UsageError("luigi.cfg has no [replica NAME]", by_hand="add one: docs/replicas.md")
    if options.policy == "replica":
        show.as_json(rights.policy("replica", map(rights.ReplicaArns, chosen.replicas)))
        return 0
    sources, replicas = _named(chosen, options.sources)
    made = [SetUp(one, lease_seconds=chosen.lease_seconds, profile=options.profile) for one in sources]
    if options.policy:
        second = map(rights.SetUpArns, replicas)
        show.as_json(rights.policy(options.policy, [*(one.arns for one in made), *second]))
        return 0
    losing = options.with_messages
    every = [*made, *(of_replica(one, profile=options.profile) for one in replicas)]
    plans = [(one, one.removals(losing_messages=losing) if options.remove else one.changes()) for one in every]
    out = show.console()
    for one, changes in plans:
        told = [line for change in changes for line in change.lines()] or ["nothing to do"]
        notes = [] if options.remove else [f"note: {note}" for note in one.notes()]
        for line in [*told, *notes]:
            out.print(show.safe(f"{one.name}: {line}"))
    changes = [change for _, told in plans for change in told]
    if options.plan or not changes:
        return 0
    lost = ", and messages are lost with their queues" if losing and options.remove else ""
    show.agreed(f"{human_count(len(changes), 'thing')} on AWS would be changed{lost}. Do it?", yes=options.yes)
    carry_out(changes, lambda text: out.print(show.safe(text)))
    return 0


def _named(chosen: Settings, names: list[str]) -> tuple[list[Source], list[Replica]]:
    """The sources with a queue and the replicas of these names, or all."""
    known = [*(one.name for one in chosen.sources), *(one.name for one in chosen.replicas)]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"no queue's source or replica is called {', '.join(unknown)}",
            by_hand=f"take one of luigi.cfg: {', '.join(known) or 'none'}",
        )
    if not known:
        raise UsageError("luigi.cfg has no [source NAME] with a queue", by_hand="add one: docs/aws.md")
    wanted = names or known
    sources = [one for one in chosen.sources if one.name in wanted]
    return sources, [one for one in chosen.replicas if one.name in wanted]
