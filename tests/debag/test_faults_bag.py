"""Bags that break a rule of RFC 8493: declaration, manifests, payload. Every fault is named, the zip kept."""

import hashlib
import random
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline.debag import FaultKind as Kind
from pipeline.debag import Policy
from tests.world.awkward import bag_with, members_of, payload_manifest, zip_bytes
from tests.world.bags import SMALL_WORK, bag_members
from tests.world.verdicts import Case, Found, assert_named, each, refused

BAG = "W1.bag"
IMAGE = "data/images/I1/I10001.jpg"
CONTENT = SMALL_WORK["images/I1/I10001.jpg"]
OTHERS = {path: content for path, content in SMALL_WORK.items() if path not in IMAGE}
ALL_UNLISTED = [(Kind.FILE_UNLISTED, f"{BAG}/data/{path}") for path in SMALL_WORK]
SHA512 = "manifest-sha512.txt"
ONE_ZERO = "1.0"


def digest(content: bytes, algorithm: str = "sha512") -> bytes:
    return hashlib.new(algorithm, content).hexdigest().encode()


def bag(
    about: str,
    found: Collection[tuple[Kind, str]],
    *,
    replaced: Mapping[str, bytes | None],
    also: Collection[Kind] = (),
    algorithms: Collection[str] = ("sha512",),
    version: str = "0.97",
    policy: Policy | None = None,
    files: Mapping[str, bytes] = SMALL_WORK,
    sealed: bool = True,
) -> Case:
    """A bag in which only `replaced` is wrong; paths in `found` are relative to the bag."""
    contents = bag_with(replaced=replaced, algorithms=list(algorithms), version=version, files=files, sealed=sealed)
    where: list[Found] = [(kind, f"{BAG}/{path}" if path else BAG) for kind, path in found]
    return Case(about, lambda: zip_bytes(members_of(contents)), where, also, policy or Policy())


def declared(about: str, kind: Kind, text: bytes | None, *also: Kind) -> Case:
    """A bag with another declaration; what hangs on it, such as rules of a version, may be named as well."""
    return bag(about, [(kind, "bagit.txt")], replaced={"bagit.txt": text}, also=also)


LINE_1, LINE_2 = b"BagIt-Version: 0.97\n", b"Tag-File-Character-Encoding: UTF-8\n"
MALFORMED = Kind.DECLARATION_MALFORMED
DECLARATIONS = [
    declared("that is missing", Kind.DECLARATION_MISSING, None),
    declared("that is empty", MALFORMED, b""),
    declared("with a byte order mark", Kind.DECLARATION_BOM, b"\xef\xbb\xbf" + LINE_1 + LINE_2),
    declared("in UTF-16", Kind.DECLARATION_BOM, (LINE_1 + LINE_2).decode().encode("utf-16"), MALFORMED),
    declared("without a version", MALFORMED, LINE_2),
    declared("without an encoding", MALFORMED, LINE_1),
    declared("in the wrong order", MALFORMED, LINE_2 + LINE_1),
    declared("with a line more", MALFORMED, LINE_1 + LINE_2 + b"Payload-Oxum: 1.1\n"),
    declared("with a blank line between", MALFORMED, LINE_1 + b"\n" + LINE_2),
    declared("with its version twice", MALFORMED, LINE_1 + LINE_1 + LINE_2),
    declared("with a blank before the colon", MALFORMED, b"BagIt-Version : 0.97\n" + LINE_2),
    declared("with a blank before a label", MALFORMED, b" BagIt-Version: 0.97\n" + LINE_2),
    declared("with two blanks after the colon", MALFORMED, b"BagIt-Version:  0.97\n" + LINE_2),
    declared("without a blank after the colon", MALFORMED, b"BagIt-Version:0.97\n" + LINE_2),
    declared("with a blank behind the version", MALFORMED, b"BagIt-Version: 0.97 \n" + LINE_2),
    declared("with a label in lower case", MALFORMED, b"bagit-version: 0.97\n" + LINE_2),
    declared("with a NUL", MALFORMED, LINE_1 + LINE_2 + b"\0"),
    declared("of a version with one number", MALFORMED, b"BagIt-Version: 1\n" + LINE_2, Kind.VERSION_UNKNOWN),
    declared("of version 2.0", Kind.VERSION_UNKNOWN, b"BagIt-Version: 2.0\n" + LINE_2),
    declared("of version 0.5", Kind.VERSION_UNKNOWN, b"BagIt-Version: 0.5\n" + LINE_2),
    declared("of version 0.970", Kind.VERSION_UNKNOWN, b"BagIt-Version: 0.970\n" + LINE_2, MALFORMED),
    declared(
        "in Tibetan digits", MALFORMED, "BagIt-Version: \u0f20.\u0f29\u0f27\n".encode() + LINE_2, Kind.VERSION_UNKNOWN
    ),
    declared("of an unheard encoding", Kind.ENCODING_UNKNOWN, LINE_1 + b"Tag-File-Character-Encoding: WTF-8\n"),
    declared(
        "of an encoding that is a cipher", Kind.ENCODING_UNKNOWN, LINE_1 + b"Tag-File-Character-Encoding: rot13\n"
    ),
    declared("of an encoding that unpacks", Kind.ENCODING_UNKNOWN, LINE_1 + b"Tag-File-Character-Encoding: zlib\n"),
    declared("of an encoding with a path", MALFORMED, LINE_1 + b"Tag-File-Character-Encoding: ../utf-8\n"),
]


@each(DECLARATIONS)
def test_a_bag_is_refused_whose_declaration_is_one(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content()).faults)


FULL = payload_manifest()
BROKEN_LINE = FULL.replace(digest(CONTENT) + b"  ", b"", 1)
MANIFESTS = [
    bag("no manifest", [(Kind.MANIFEST_MISSING, "")], replaced={SHA512: None}, also=(Kind.FILE_UNLISTED,)),
    bag(
        "only a manifest of an unknown algorithm",
        [(Kind.NO_KNOWN_ALGORITHM, "")],
        replaced={SHA512: None, "manifest-sha9000.txt": FULL},
        also=(Kind.FILE_UNLISTED, Kind.ALGORITHM_UNKNOWN),
    ),
    bag(
        "only a manifest of an algorithm without a length",
        [(Kind.NO_KNOWN_ALGORITHM, "")],
        replaced={SHA512: None, "manifest-shake_128.txt": FULL},
        also=(Kind.FILE_UNLISTED, Kind.ALGORITHM_UNKNOWN),
    ),
    bag(
        "an empty manifest",
        ALL_UNLISTED and [(Kind.FILE_UNLISTED, f"data/{p}") for p in SMALL_WORK],
        replaced={SHA512: b""},
    ),
    bag("a file missing", [(Kind.FILE_MISSING, IMAGE)], replaced={IMAGE: None}, also=(Kind.OXUM_DIFFERS,)),
    bag(
        "an extra file",
        [(Kind.FILE_UNLISTED, "data/extra.jpg")],
        replaced={"data/extra.jpg": b"x"},
        also=(Kind.OXUM_DIFFERS,),
    ),
    bag("a file altered", [(Kind.DIGEST_DIFFERS, IMAGE)], replaced={IMAGE: b"F" + CONTENT[1:]}),
    bag(
        "a file a byte short", [(Kind.DIGEST_DIFFERS, IMAGE)], replaced={IMAGE: CONTENT[:-1]}, also=(Kind.OXUM_DIFFERS,)
    ),
    bag("a file emptied", [(Kind.DIGEST_DIFFERS, IMAGE)], replaced={IMAGE: b""}, also=(Kind.OXUM_DIFFERS,)),
    bag(
        "a file unlisted in one of two manifests, in 1.0",
        [(Kind.FILE_NOT_IN_EVERY_MANIFEST, IMAGE)],
        replaced={"manifest-sha256.txt": payload_manifest(OTHERS, "sha256")},
        algorithms=("sha512", "sha256"),
        version=ONE_ZERO,
    ),
    bag(
        "a file wrong in one of two manifests",
        [(Kind.DIGEST_DIFFERS, IMAGE)],
        replaced={"manifest-md5.txt": payload_manifest({**SMALL_WORK, IMAGE[5:]: b"other"}, "md5")},
        algorithms=("sha512", "md5"),
    ),
    bag(
        "a file listed twice, in 1.0",
        [(Kind.LISTED_TWICE, IMAGE)],
        replaced={SHA512: FULL + digest(CONTENT) + b"  " + IMAGE.encode() + b"\n"},
        version=ONE_ZERO,
    ),
    bag(
        "a file listed with two digests",
        [(Kind.MANIFESTS_DISAGREE, IMAGE)],
        replaced={SHA512: FULL + digest(b"other") + b"  " + IMAGE.encode() + b"\n"},
        also=(Kind.LISTED_TWICE, Kind.DIGEST_DIFFERS),
    ),
    bag(
        "a line that is only a path",
        [(Kind.MANIFEST_MALFORMED, SHA512)],
        replaced={SHA512: BROKEN_LINE},
        also=(Kind.FILE_UNLISTED, Kind.DIGEST_MALFORMED),
    ),
    bag("a line of garbage", [(Kind.MANIFEST_MALFORMED, SHA512)], replaced={SHA512: FULL + b"garbage\n"}),
    bag(
        "a line that is only a digest",
        [(Kind.MANIFEST_MALFORMED, SHA512)],
        replaced={SHA512: FULL + digest(b"") + b"\n"},
    ),
    bag(
        "a digest that is too short",
        [(Kind.DIGEST_MALFORMED, IMAGE)],
        replaced={SHA512: FULL.replace(digest(CONTENT), digest(CONTENT)[:-1])},
        also=(Kind.FILE_UNLISTED, Kind.DIGEST_DIFFERS),
    ),
    bag(
        "a digest that is not hexadecimal",
        [(Kind.DIGEST_MALFORMED, IMAGE)],
        replaced={SHA512: FULL.replace(digest(CONTENT), b"g" * 128)},
        also=(Kind.FILE_UNLISTED, Kind.DIGEST_DIFFERS),
    ),
    bag(
        "a manifest that is not in the declared encoding",
        [(Kind.TAG_FILE_UNDECODABLE, SHA512)],
        replaced={SHA512: FULL + digest(b"") + b"  data/\xff\xfe.jpg\n"},
        also=(Kind.FILE_UNLISTED, Kind.FILE_MISSING),
    ),
]
UNSAFE = Kind.MANIFEST_PATH_UNSAFE, Kind.MANIFEST_PATH_MISPLACED, Kind.FILE_MISSING


def listing(path: str, about: str, kind: Kind = Kind.MANIFEST_PATH_UNSAFE) -> Case:
    """A bag whose manifest lists `path` too."""
    line = digest(b"x") + b"  " + path.encode() + b"\n"
    return bag(about, [(kind, path)], replaced={SHA512: FULL + line}, also=UNSAFE)


PATHS = [
    listing("../escaped", "outside the bag"),
    listing("data/../../escaped", "outside the bag by way of the payload"),
    listing("../W1.bag2/x", "in a sibling folder of like name"),
    listing("/etc/hostname", "from the root"),
    listing("~/x", "in a home folder", Kind.MANIFEST_PATH_MISPLACED),
    listing("bag-info.txt", "a tag file in the payload manifest", Kind.MANIFEST_PATH_MISPLACED),
    listing("database/x", "beside the payload folder", Kind.MANIFEST_PATH_MISPLACED),
]


@each(MANIFESTS)
def test_a_bag_is_refused_that_has(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content()).faults)


@each(PATHS)
def test_a_bag_is_refused_whose_manifest_lists_a_path(tmp_path: Path, case: Case) -> None:
    assert_named(case, refused(tmp_path, case.content()).faults)


def test_a_damaged_file_is_found_whatever_its_size_and_however_it_is_packed(tmp_path: Path) -> None:
    for size in (1, 4096, 262_144, 300_001, 9_000_000):
        good = random.Random(size).randbytes(size)
        bad = good[:-1] + bytes([good[-1] ^ 1])
        contents = bag_with(files={"image": good, "other": b"x"}, replaced={"data/image": bad})
        for method in (0, 8):
            case = Case("one byte wrong", bytes, [(Kind.DIGEST_DIFFERS, f"{BAG}/data/image")])
            assert_named(case, refused(tmp_path, zip_bytes(members_of(contents, method=method))).faults)


def test_all_faults_of_a_bag_are_listed_and_not_only_the_first(tmp_path: Path) -> None:
    files = {f"{number}.jpg": b"image %d" % number for number in range(20)}
    replaced: dict[str, bytes | None] = {
        "data/3.jpg": b"altered",
        "data/5.jpg": b"imag",
        "data/7.jpg": None,
        "data/11.jpg": None,
        "data/extra.jpg": b"x",
        "bag-info.txt": b"Payload-Oxum: 1.1\nPayload-Oxum: 1.1\nBDRC-RID: W1\n",
        SHA512: payload_manifest(files) + b"garbage\n" + digest(b"") + b"  ../escaped\n",
    }
    contents = bag_with(files=files, replaced=replaced)
    contents[f"{BAG}/tagmanifest-sha512.txt"] += digest(b"") + b"  absent.txt\n"
    case = Case(
        "many",
        lambda: zip_bytes(members_of(contents)),
        [
            (Kind.DIGEST_DIFFERS, f"{BAG}/data/3.jpg"),
            (Kind.DIGEST_DIFFERS, f"{BAG}/data/5.jpg"),
            (Kind.FILE_MISSING, f"{BAG}/data/7.jpg"),
            (Kind.FILE_MISSING, f"{BAG}/data/11.jpg"),
            (Kind.FILE_UNLISTED, f"{BAG}/data/extra.jpg"),
            (Kind.OXUM_REPEATED, f"{BAG}/bag-info.txt"),
            (Kind.MANIFEST_MALFORMED, f"{BAG}/{SHA512}"),
            (Kind.MANIFEST_PATH_UNSAFE, f"{BAG}/../escaped"),
            (Kind.TAG_FILE_MISSING, f"{BAG}/absent.txt"),
        ],
        (Kind.OXUM_DIFFERS, Kind.FILE_MISSING),
    )
    assert_named(case, refused(tmp_path, case.content()).faults)


def test_a_thousand_damaged_files_are_a_thousand_faults(tmp_path: Path) -> None:
    files = {f"{number:04}.jpg": b"image %d" % number for number in range(1000)}
    contents = bag_members(files=files) | {f"{BAG}/data/{path}": b"bad" for path in files}
    faults = refused(tmp_path, zip_bytes(members_of(contents))).faults
    assert sum(fault.kind == Kind.DIGEST_DIFFERS for fault in faults) == len(files)
