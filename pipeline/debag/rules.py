"""The rules of a valid bag, one a function, each with its section of RFC 8493. What is wrong goes into `say`."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from pipeline.debag.bag_record import BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import PAYLOAD
from pipeline.debag.manifests import WEAK_ALGORITHMS
from pipeline.debag.policy import Policy
from pipeline.debag.zip_members import nfc
from pipeline.foundation.work import human_count

_OXUM = re.compile(r"([0-9]{1,20})\.([0-9]{1,20})")
_FROM_1_0 = (1, 0)

Rule = Callable[[BagRecord, Policy, Findings], None]


def has_a_declaration(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.1.1: there is a bagit.txt (its form is judged where it is read)."""
    if "bagit.txt" not in bag.found.tag_files:
        say.fault(FaultKind.DECLARATION_MISSING, "no bag declaration", path="bagit.txt")


def has_a_payload_folder(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.1.2: there is a folder `data`."""
    if not bag.found.has_payload_folder:
        say.fault(FaultKind.PAYLOAD_MISSING, "no payload folder", path="data")


def has_a_payload_manifest(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.1.3, 2.4: there is a payload manifest of an algorithm that is known here."""
    unknown = [manifest.file_name for manifest in (*bag.manifests, *bag.tag_manifests) if not manifest.algorithm]
    if not bag.manifests:
        say.fault(FaultKind.MANIFEST_MISSING, "no payload manifest")
    elif not any(manifest.algorithm for manifest in bag.manifests):
        say.fault(FaultKind.NO_KNOWN_ALGORITHM, ", ".join(unknown))
        return
    for name in unknown:
        say.warn(FaultKind.ALGORITHM_UNKNOWN, "its digests were not checked", path=name)


def has_strong_digests(bag: BagRecord, policy: Policy, say: Findings) -> None:
    """2.4: not md5 or sha1 alone, which can be forged; they still tell accidents."""
    known = {manifest.algorithm for manifest in bag.manifests} - {""}
    if known and known <= WEAK_ALGORITHMS:
        say.judge(FaultKind.ALGORITHM_WEAK, f"only {' and '.join(sorted(known))}", refuse=not policy.allow_weak_digests)


def manifests_keep_to_the_payload(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.1.3: a payload manifest lists payload files; 2.2.1: a tag manifest lists neither those nor tag manifests."""
    for manifest in bag.manifests:
        for path in say.each(manifest.missing):
            if not path.startswith(PAYLOAD):
                detail = f"{manifest.file_name} lists what is not in the payload"
                say.fault(FaultKind.MANIFEST_PATH_MISPLACED, detail, path=path)
    for manifest in bag.tag_manifests:
        for path in say.each(chain(manifest.entries, manifest.missing)):
            if path.startswith((PAYLOAD, "tagmanifest-")):
                detail = f"{manifest.file_name} may list neither payload nor tag manifests"
                say.fault(FaultKind.MANIFEST_PATH_MISPLACED, detail, path=path)


def manifests_of_one_algorithm_agree(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.1.3: `manifest-sha512.txt` and `manifest-SHA512.txt`, should there be both, give each file one digest."""
    for manifests in (bag.manifests, bag.tag_manifests):
        first: dict[str, Mapping[str, str]] = {}
        for manifest in manifests:
            other = first.setdefault(manifest.algorithm, manifest.entries)
            if other is manifest.entries or not manifest.algorithm:
                continue
            for path in sorted(other.keys() & manifest.entries.keys()):
                if other[path] != manifest.entries[path]:
                    detail = f"two manifests of {manifest.algorithm} give it two digests"
                    say.fault(FaultKind.MANIFESTS_DISAGREE, detail, path=path)


def lists_only_files_that_are_there(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """3: every file that a payload manifest lists is in the bag."""
    to_fetch = set(bag.to_fetch or ())
    absent = dict.fromkeys(path for manifest in bag.manifests for path in say.each(manifest.missing))
    for path in say.each(absent):
        if path.startswith(PAYLOAD) and path not in to_fetch:
            names = [manifest.file_name for manifest in bag.manifests if path in manifest.entries]
            say.fault(FaultKind.FILE_MISSING, f"listed in {', '.join(names)}", path=path)


def lists_every_payload_file(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """3: every payload file is in a manifest; 2.1.3: from 1.0 on in each of them."""
    manifests = [manifest for manifest in bag.manifests if manifest.whole]
    if len(manifests) < max(1, len(bag.manifests)):
        return  # what a manifest that cannot be read lists is not known
    listed_somewhere: set[str] = set()
    for manifest in manifests:
        if manifest.algorithm:
            listed_somewhere.update(manifest.entries)
    for path in say.each(bag.found.payload.keys() - listed_somewhere):
        say.fault(FaultKind.FILE_UNLISTED, "in no manifest of a known algorithm", path=path)
    if bag.declaration.version < _FROM_1_0:
        return
    for manifest in manifests:
        for path in say.each((bag.found.payload.keys() & listed_somewhere) - manifest.entries.keys()):
            say.fault(FaultKind.FILE_NOT_IN_EVERY_MANIFEST, f"not in {manifest.file_name}", path=path)


def names_are_told_apart(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """6.1.1.2: names that are equal once composed are told apart by a manifest, each in its own spelling."""
    files = bag.found.payload
    first: dict[str, str] = {}
    twins: dict[str, list[str]] = {}
    for name in say.each(files):
        if not name.isascii():
            form = nfc(name)
            other = form if form in files else first.setdefault(form, name)
            if other != name:
                twins.setdefault(form, [other]).append(name)
    for names in twins.values():
        told_apart = any(all(name in manifest.entries for name in names) for manifest in bag.manifests)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        detail = f"equal in Unicode's composed form: {', '.join(map(ascii, names[:5]))}{more}"
        for name in names:
            say.judge(FaultKind.NAMES_COLLIDE, detail, refuse=not told_apart, path=name)


def has_a_tag_manifest(bag: BagRecord, policy: Policy, say: Findings) -> None:
    """2.2.1: tag manifests may be left out; what they would list is then protected by the zip's CRC-32 alone."""
    if not bag.tag_manifests:
        detail = "nothing proves the tag files, manifests among them"
        say.judge(FaultKind.TAG_MANIFEST_MISSING, detail, refuse=policy.require_tag_manifest)


def tag_manifests_list_only_files_that_are_there(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.2.1: every tag file that a tag manifest lists is in the bag."""
    for manifest in bag.tag_manifests:
        for path in say.each(manifest.missing):
            if not path.startswith((PAYLOAD, "tagmanifest-")):
                say.fault(FaultKind.TAG_FILE_MISSING, f"listed in {manifest.file_name}", path=path)


def tag_manifests_list_every_tag_file(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.2.1: each tag manifest must list every payload manifest, and should list the other tag files."""
    payload_manifests = {manifest.file_name for manifest in bag.manifests}
    others = {manifest.file_name for manifest in bag.tag_manifests}
    for manifest in (manifest for manifest in bag.tag_manifests if manifest.whole):
        for path in say.each(bag.found.tag_files.keys() - manifest.entries.keys() - others):
            detail = f"not in {manifest.file_name}"
            must = path in payload_manifests
            say.judge(FaultKind.TAG_FILE_UNLISTED, detail, refuse=must, path=path)


def tag_files_match(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.2.1: every listed tag file is what the tag manifests say; without a digest its CRC-32 has to do."""
    known = [manifest for manifest in bag.tag_manifests if manifest.algorithm]
    for path, found_digests in bag.digests.items():
        digests = dict(zip(bag.algorithms, found_digests, strict=True))
        checked = [manifest for manifest in known if path in manifest.entries]
        for manifest in checked:
            expected, found = manifest.entries[path], digests[manifest.algorithm]
            if expected != found:
                detail = f"{manifest.algorithm}: {manifest.file_name} says {expected}, it is {found}"
                say.fault(FaultKind.TAG_DIGEST_DIFFERS, detail, path=path)
        if path in bag.crc_wrong:
            detail = "its CRC-32 in the zip is wrong" + (", its digest is right" if checked else "")
            say.judge(FaultKind.CRC_DIFFERS, detail, refuse=not checked, path=path)


def payload_oxum_is_right(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.2.2: Payload-Oxum, at most once, is the payload's bytes and files."""
    values = [value for label, value in bag.metadata if label.casefold() == "payload-oxum"]
    if len(values) > 1:
        say.fault(FaultKind.OXUM_REPEATED, ", ".join(values)[:200], path="bag-info.txt")
    size, count = sum(member.size for member in bag.found.payload.values()), len(bag.found.payload)
    for value in dict.fromkeys(values):
        match = _OXUM.fullmatch(value)
        if match is None:
            say.fault(FaultKind.OXUM_MALFORMED, f"{value[:80]!r} is not bytes.files", path="bag-info.txt")
        elif (int(match[1]), int(match[2])) != (size, count):
            detail = f"Payload-Oxum says {value}, the payload has {size}.{count} (bytes.files)"
            say.fault(FaultKind.OXUM_DIFFERS, detail, path="bag-info.txt")


def needs_no_fetching(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """2.2.3: all that fetch.txt lists is here already; nothing is ever fetched (5.2)."""
    listed = bag.to_fetch or ()
    absent = list(dict.fromkeys(path for path in listed if path not in bag.found.payload))
    for path in say.each(absent):
        say.fault(FaultKind.FETCH_NEEDED, "would have to be fetched", path=path)
    if listed and not absent:
        detail = f"all that it lists is here ({human_count(len(listed), 'file')})"
        say.warn(FaultKind.FETCH_COMPLETE, detail, path="fetch.txt")


def names_one_work(bag: BagRecord, policy: Policy, say: Findings) -> None:
    """BDRC: the bag's folder and its BDRC-RID name the same work; a bag without a folder has the zip's name for it."""
    for label, value in bag.metadata:
        if label.casefold() == "bdrc-rid" and bag.found.rid and value != bag.found.rid:
            named = f"the bag is {bag.found.rid}"
            if not bag.found.folder:
                bag.found.named_inside = value
                named = f"the zip is named for {bag.found.rid}: if that is wrong, rename it"
            detail = f"BDRC-RID says {value[:200]!r}, {named}"
            refuse = policy.rid_mismatch == "refuse"
            say.judge(FaultKind.RID_MISMATCH, detail, refuse=refuse, path="bag-info.txt")


RULES: tuple[Rule, ...] = (
    has_a_declaration,
    has_a_payload_folder,
    has_a_payload_manifest,
    has_strong_digests,
    manifests_keep_to_the_payload,
    manifests_of_one_algorithm_agree,
    lists_only_files_that_are_there,
    lists_every_payload_file,
    names_are_told_apart,
    has_a_tag_manifest,
    tag_manifests_list_only_files_that_are_there,
    tag_manifests_list_every_tag_file,
    tag_files_match,
    payload_oxum_is_right,
    needs_no_fetching,
    names_one_work,
)


def check(bag: BagRecord, policy: Policy, say: Findings, *, rules: Iterable[Rule] = RULES) -> None:
    """Judge a bag by all the rules, or by some."""
    for rule in rules:
        say.beat()
        rule(bag, policy, say.of(bag.name))
