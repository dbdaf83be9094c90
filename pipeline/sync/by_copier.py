"""The archive copy made by the built-in copier: proved before any file of it has its name."""

from dataclasses import replace
from pathlib import Path

from pipeline.foundation.fixity import Fixity
from pipeline.sync import audit, copier
from pipeline.sync.audit import Audits
from pipeline.sync.auditor import audited
from pipeline.sync.call import Call
from pipeline.sync.options import Options
from pipeline.sync.readback import Comparison
from pipeline.sync.replaced import Journal


def run(call: Call, known: Fixity, before: Comparison, chosen: Options) -> tuple[Comparison, Path | None, Audits]:
    """Audit the work, copy what is missing, prove it, publish it, audit the copy.

    Where all is there already, what a killed copier left is swept, and nothing more is done; unless an audit of an
    earlier try did not end well, or an operator asked for the step again.

    Args:
        call: the work, and where it lies.
        known: its verified digests.
        before: what the archive has of it, read just now; all of it matches.
        chosen: the options.

    Returns:
        the proof of the whole copy, the log of the audits if there is one, and what became of them.

    Raises:
        AuditFailed: a test of the audit tool failed.
        SyncFailed: the audit tool took too long, or broke off.
        ReadBackFailed: what was written came back as something else; nothing of it was published.
        StagingDamaged: staging is not what debag left; the same.
        OSError: the system refused something; what is complete stays in the hidden folder.
    """
    if not (before.missing or call.has_to_run):
        copier.sweep(call.folder)
        return before, None, audit.none_run("nothing was to be copied")
    with audited(call, chosen) as auditor:
        auditor.run("pre", call.work_dir)
        proof = _brought(call, known, before)
        auditor.run("post", call.folder)
    return proof, auditor.log, auditor.audits


def _brought(call: Call, known: Fixity, before: Comparison) -> Comparison:
    """Copy, prove, publish; returns the proof of the whole copy."""
    if not before.missing:
        copier.sweep(call.folder)
        return before
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
