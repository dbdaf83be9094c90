"""Builds the wheel (PEP 517): one shared library, for any Python of this platform. `CC` and `CFLAGS` are heeded."""

import base64
import hashlib
import os
import shlex
import subprocess
import sysconfig
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE, VERSION = "bag_pipeline_native", "1"
FLAGS = ("-std=gnu11", "-O2", "-funroll-loops", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread")


def compile_library(target: Path, *flags: str) -> None:
    """Compile the library; raises CalledProcessError or FileNotFoundError where there is no compiler that can."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    given = shlex.split(os.environ.get("CFLAGS", ""))
    command = [*compiler, *FLAGS, *given, *flags, str(HERE / "sha512_files.c"), "-o", str(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:  # noqa: ARG001  # PEP 517
    """Make the wheel and return its name."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "libsha512.so")
        compile_library(library)
        content = library.read_bytes()
    info = f"{PACKAGE}-{VERSION}.dist-info"
    files = {
        f"{PACKAGE}/__init__.py": b'"""Holds libsha512.so; pipeline.foundation.vectors calls it."""\n',
        f"{PACKAGE}/libsha512.so": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: bag-pipeline-native\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{platform}\n".encode(),
    }
    record = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    name = f"{PACKAGE}-{VERSION}-py3-none-{platform}.whl"
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return name


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
