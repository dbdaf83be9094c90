"""What containers need of the lanes: logs on stderr alone, and a file that tells that all of them run."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import yaml

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site, lines, wait_until

HEALTHY = ROOT / "docker" / "healthy"


def healthy(file: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "PIPELINE_PIPELINE_ALIVE_FILE": str(file), **more}
    return subprocess.run([HEALTHY], env=environment, capture_output=True, text=True, check=False)


def test_without_log_files_the_lanes_log_to_stderr_alone_and_tell_who_speaks(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    run = site.call("run", PIPELINE_PIPELINE_LOG_FILES="false")

    assert run.returncode == 0, run.stderr
    assert site.archived("W1") == SMALL_WORK
    assert lines(run.stderr, "lane-", "W1: debagged")
    assert list((site.home / "logs").glob("*.log*")) == []


def test_a_worker_is_healthy_while_its_lanes_run_and_not_before_or_after(site: Site, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    assert healthy(alive).returncode == 1
    worker = site.start("run", "--watch", PIPELINE_PIPELINE_ALIVE_FILE=str(alive))
    try:
        wait_until(alive.exists)
        assert healthy(alive).returncode == 0
        first = alive.stat().st_mtime_ns
        wait_until(lambda: alive.stat().st_mtime_ns > first)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert worker.returncode == 0

    os.utime(alive, (time.time() - 60, time.time() - 60))
    told = healthy(alive)
    assert told.returncode == 1
    assert "not all of it has run" in told.stdout


def test_a_watch_of_notifications_is_healthy_for_as_long_as_a_look_may_take(site: Site, tmp_path: Path) -> None:
    alive, address = tmp_path / "alive", tmp_path / "webhook"
    address.write_text("http://127.0.0.1:1/nobody-is-there")
    told = {"PIPELINE_NOTIFY_WEBHOOK_URL_FILE": str(address), "PIPELINE_PIPELINE_ALIVE_FILE": str(alive)}
    watch = site.start("notify", "--watch", **told)
    try:
        wait_until(alive.exists)  # at once, not after the first minute
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=60)
    assert watch.returncode == 0

    os.utime(alive, (time.time() - 120, time.time() - 120))
    assert healthy(alive).returncode == 1
    assert healthy(alive, ALIVE_SECONDS="300").returncode == 0


def test_every_service_of_the_stack_is_hardened_bounded_and_watched() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]

    for name, service in services.items():
        assert service["init"] is True, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        once = service.get("healthcheck") == {"disable": True}
        assert once == (name in {"migrate", "demo", "fixity"}), name
        assert service["restart"] == "unless-stopped" or once, name
        # metrics asks for no password, and luigid's goes over the line as it is: nobody but this machine is let in.
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:${") or name == "proxy", name
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or "/run/secrets/" in value, name


def test_luigid_is_asked_with_the_password_by_every_service_and_the_proxy() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services, file = compose["services"], "/run/secrets/scheduler_password"

    assert services["luigid"]["entrypoint"] == ["python", "-m", "pipeline.operations.door"]
    assert f"--password-file={file}" in services["luigid"]["command"]
    assert f"--password-file={file}" in services["luigid"]["healthcheck"]["test"]
    for name, service in services.items():
        if "PIPELINE_SCHEDULER_URL" in service.get("environment", {}):
            assert service["environment"]["PIPELINE_PIPELINE_SCHEDULER_PASSWORD_FILE"] == file, name
            assert "scheduler_password" in service["secrets"], name
    nginx = (ROOT / "docker" / "nginx.conf").read_text(encoding="utf-8")
    (included,) = re.findall(r"include /run/secrets/(\w+);", nginx)
    assert included in services["proxy"]["secrets"]
