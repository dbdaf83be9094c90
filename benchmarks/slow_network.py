"""A network of a known rate on this machine: two hosts in network namespaces of their own, and a line between them.

What a server does behind its address is on its own loopback, and not on the line; so only what a contender fetches is
slowed down. Needs root, and unshare, nsenter, ip and tc.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

SERVER, _CLIENT = "10.77.0.1", "10.77.0.2"
RATE = "2gbit"  # 250 MB/s
_NEEDED = ("unshare", "nsenter", "ip", "tc")
_LONGEST_SECONDS = "86400"
_PATIENCE_SECONDS = 10


def possible() -> bool:
    """Whether this machine lets us make one."""
    return os.geteuid() == 0 and all(map(shutil.which, _NEEDED))


@contextlib.contextmanager
def client_host() -> Iterator[list[str]]:
    """Join this network namespace, which has to be a new one, to another; yields what starts a command over there.

    Raises:
        CalledProcessError: the system does not let us.
    """
    _run("ip", "link", "set", "lo", "up")
    holder = subprocess.Popen(["unshare", "--net", "sleep", _LONGEST_SECONDS])
    try:
        _wait_until_apart(holder.pid)
        there = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        _run("ip", "link", "add", "line0", "type", "veth", "peer", "name", "line1", "netns", str(holder.pid))
        _run("ip", "addr", "add", f"{SERVER}/30", "dev", "line0")
        _run("ip", "link", "set", "line0", "up")
        _run("tc", "qdisc", "add", "dev", "line0", "root", "tbf", "rate", RATE, "burst", "1mb", "latency", "50ms")
        _run(*there, "ip", "link", "set", "lo", "up")
        _run(*there, "ip", "addr", "add", f"{_CLIENT}/30", "dev", "line1")
        _run(*there, "ip", "link", "set", "line1", "up")
        yield there
    finally:
        holder.kill()  # its namespace goes with it, and the line with that
        holder.wait()


def _wait_until_apart(pid: int) -> None:
    """Wait until a process has a network namespace of its own."""
    over = time.monotonic() + _PATIENCE_SECONDS
    while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        if time.monotonic() > over:
            raise TimeoutError("unshare --net does nothing here")
        time.sleep(0.01)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
