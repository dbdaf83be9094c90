"""A network of a known rate on this machine: hosts in network namespaces of their own, each with a line to us.

What a server does behind its address is on its own loopback, and not on the line; so only what a contender fetches is
slowed down. Needs root, and unshare, nsenter, ip and tc.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

SERVER = "10.77.0.1"
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
    with client_hosts(1, rate=RATE, burst="1mb") as (there,):
        yield there


@contextlib.contextmanager
def client_hosts(number: int, *, rate: str, burst: str) -> Iterator[list[list[str]]]:
    """The same for several: each has a line of its own, of a rate and a burst as tc writes them, and reaches `SERVER`.

    Raises:
        CalledProcessError: the system does not let us.
    """
    _run("ip", "link", "set", "lo", "up")
    with contextlib.ExitStack() as tidy:
        yield [tidy.enter_context(_one_host(host, rate, burst)) for host in range(number)]


@contextlib.contextmanager
def _one_host(number: int, rate: str, burst: str) -> Iterator[list[str]]:
    near, far, line = f"10.77.{number}.1", f"10.77.{number}.2", f"line{number}"
    holder = subprocess.Popen(["unshare", "--net", "sleep", _LONGEST_SECONDS])
    try:
        _wait_until_apart(holder.pid)
        there = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        _run("ip", "link", "add", line, "type", "veth", "peer", "name", "there", "netns", str(holder.pid))
        _run("ip", "addr", "add", f"{near}/30", "dev", line)
        _run("ip", "link", "set", line, "up")
        _run("tc", "qdisc", "add", "dev", line, "root", "tbf", "rate", rate, "burst", burst, "latency", "50ms")
        _run(*there, "ip", "link", "set", "lo", "up")
        _run(*there, "ip", "addr", "add", f"{far}/30", "dev", "there")
        _run(*there, "ip", "link", "set", "there", "up")
        _run(*there, "ip", "route", "add", "default", "via", near)
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
