"""The archive copy made by the built-in copier: proved before any file of it has its name."""

from dataclasses import replace

from pipeline.fixity import Fixity
from pipeline.steps.sync import copier
from pipeline.steps.sync.aside import Journal
from pipeline.steps.sync.call import Call
from pipeline.steps.sync.readback import Comparison


def bring(call: Call, known: Fixity, before: Comparison) -> Comparison:
    """Copy what is missing, prove it, publish it; returns the proof of the whole copy.

    Args:
        call: the work, and where it lies.
        known: its verified digests.
        before: what the archive has of it, read just now; all of it matches.

    Raises:
        ReadBackFailed: what was written came back as something else; nothing of it was published.
        StagingDamaged: staging is not what debag left; the same.
        OSError: the system refused something; what is complete stays in the hidden folder.
    """
    files = {name: known.files[name] for name in before.missing}
    outcome = copier.copy(call.work_dir, call.folder, files, threads=call.threads, pulse=call.pulse)
    if outcome.damaged:
        raise call.staging_changed(outcome.damaged)
    proof = replace(
        before,
        matched=before.matched + outcome.matched,
        missing=(),
        differing=tuple(sorted(outcome.differing)),
        unreadable=tuple(sorted(outcome.unreadable)),
        algorithms=tuple(sorted({name for file in known.files.values() for name in file.digests})),
        cache_dropped=outcome.cache_dropped and (before.cache_dropped or not before.matched),
    )
    if not proof.whole:
        raise call.not_proved(
            proof,
            "what was written came back from the archive's disk as something else",
            kept=f"nothing of it was published; it is in {copier.hidden(call.folder)}",
        )
    call.check_place()
    Journal.load(call.journal).wrote(files)
    copier.publish(call.work_dir, call.folder)
    return proof
