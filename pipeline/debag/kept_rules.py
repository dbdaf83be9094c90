"""The rules for a work that is judged by the manifests of an earlier bag."""

from pipeline.debag import rules
from pipeline.debag.bag_record import BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import FoundBag
from pipeline.debag.policy import Policy
from pipeline.foundation.fixity import digests_name

_NOT_KEPT = {"bagit.txt", "bag-info.txt"}


def kept_manifests_list_every_file(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """A work without a bag may have got files since its manifests were kept: those are not verified, and said."""
    listed = {path for manifest in bag.manifests if manifest.algorithm for path in manifest.entries}
    for path in say.each(bag.found.payload.keys() - listed):
        say.warn(FaultKind.FILE_UNLISTED, bag=bag.name, path=path, detail=f"in no manifest of {bag.found.kept}")


def kept_tag_files_are_there(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """Of a bag's tag files BDRC keeps the manifests; the others are missing, and that is no fault."""
    for manifest in bag.tag_manifests:
        for path in sorted({*bag.missing.get(manifest.file_name, ())} - _NOT_KEPT):
            must = path.startswith("manifest-")
            detail = f"listed in {manifest.file_name}"
            say.judge(FaultKind.TAG_FILE_MISSING, refuse=must, bag=bag.name, path=path, detail=detail)


RULES: tuple[rules.Rule, ...] = (
    rules.has_a_payload_manifest,
    rules.has_strong_digests,
    rules.manifests_keep_to_the_payload,
    rules.manifests_of_one_algorithm_agree,
    rules.lists_only_files_that_are_there,
    kept_manifests_list_every_file,
    rules.names_are_told_apart,
    kept_tag_files_are_there,
    rules.tag_files_match,
)


def check(work: BagRecord, policy: Policy, say: Findings) -> None:
    """Judge a work without a bag by the manifests that were kept of an earlier one."""
    for rule in RULES:
        say.beat()
        rule(work, policy, say)


def leave_own_proof_out(found: FoundBag, say: Findings) -> None:
    """The digests that this program keeps in the archive are not the work's: they are made anew when it is home."""
    name = digests_name(found.rid)
    if found.tag_files.pop(name, None) is not None:
        say.warn(
            FaultKind.PROOF_LEFT_OUT, bag=found.folder, path=f"{found.kept}/{name}", detail="made anew in the archive"
        )


def is_of_the_work(record: BagRecord) -> bool:
    """Whether the kept manifests list any file of the work: only then can they say what is missing or altered."""
    return any(path in record.found.payload for manifest in record.manifests for path in manifest.entries)


def given_up(found: FoundBag, say: Findings) -> None:
    """Take the work as one that nothing can verify, its `.bag` folder as a folder like any other."""
    detail = f"what {found.kept} lists is not in the work, so it verifies nothing"
    say.warn(FaultKind.KEPT_MANIFESTS_STRANGE, bag=found.folder, path=found.kept, detail=detail)
    base, kept = len(found.base), found.kept
    found.payload = {path[base:]: member for path, member in found.payload.items()}
    found.payload |= {f"{kept}/{path}": member for path, member in found.tag_files.items()}
    found.folders = {
        path[base:] if path.startswith(found.base) else f"{kept}/{path}" if path else kept: member
        for path, member in found.folders.items()
        if path != found.base[:-1]
    }
    found.tag_files, found.kept, found.base, found.bagged = {}, "", "", False
