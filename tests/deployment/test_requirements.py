"""What pip installs is what was looked at: each requirement has one version, and the hashes of its files."""

import re
from pathlib import Path

import pytest

from tests.world.stack import ROOT

LOCKED = {
    "requirements": ["requirements.txt"],
    "requirements-demo": ["requirements-demo.txt"],
    "requirements-report": ["requirements-report.txt"],
    "requirements-dev": ["requirements-dev.txt"],
    "requirements-bench": sorted(f"benchmarks/{file.name}" for file in (ROOT / "benchmarks").glob("requirements*.txt")),
    "engine": ["tests/engine/requirements.txt"],
    "uv": ["locks/uv.in"],
}


def pinned(file: Path) -> dict[str, str]:
    """Versions by name in a file that a person edits, and in those that it names."""
    pins: dict[str, str] = {}
    for line in file.read_text().splitlines():
        if line.startswith("-r "):
            pins |= pinned(file.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            name, version = line.split("==")
            pins[re.sub(r"\[.*\]", "", name).lower().replace("_", "-")] = version
    return pins


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name in a lock."""
    found = re.findall(
        r"^([\w.-]+)==(\S+)((?: \\\n    --hash=\S+)*)", (ROOT / "locks" / f"{name}.txt").read_text(), re.MULTILINE
    )
    return {package: (version, re.findall("--hash=sha256:([0-9a-f]{64})", rest)) for package, version, rest in found}


@pytest.mark.parametrize("name", LOCKED)
def test_each_requirement_is_locked_in_its_version_with_hashes_and_no_index(name: str) -> None:
    edited = {pin: version for file in LOCKED[name] for pin, version in pinned(ROOT / file).items()}

    lock = locked(name)

    told = "the lock is not of these requirements any more; go on with: make lock"
    assert {pin: lock.get(pin, ("", []))[0] for pin in edited} == edited, told
    assert [package for package, (_, hashes) in lock.items() if not hashes] == []
    assert "://" not in (ROOT / "locks" / f"{name}.txt").read_text()


def test_what_runs_is_pinned_by_a_person_with_all_that_it_brings_along() -> None:
    for name in ("requirements", "requirements-demo", "requirements-report"):
        assert set(locked(name)) == set(pinned(ROOT / f"{name}.txt")), name


def test_whatever_the_project_installs_by_itself_is_matched_with_its_hashes() -> None:
    for file in ("Makefile", "Dockerfile", "docker/moto.Dockerfile", "tests/engine/engine.sh", "tests/engine/files"):
        commands = re.sub(r"\\\n", " ", (ROOT / file).read_text()).splitlines()
        installs = [line for line in commands if re.search(r"pip\b.*\binstall\b", line)]
        assert installs, file
        for line in installs:
            # A site's own requirements have the hashes that the site gives them; native/ comes from this checkout.
            for install in re.split(r"&&|\{", line):
                held = ("--require-hashes", "-c /build/pinned.txt", "--no-index --no-deps")
                assert " install " not in install or any(word in install for word in held), line
