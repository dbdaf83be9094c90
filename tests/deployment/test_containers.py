"""What containers need of the lanes: logs on stderr alone, and a file that tells that all of them run."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site, lines, wait_until

HEALTHY = ROOT / "docker" / "healthy"


class Template(yaml.SafeLoader):
    """A template of CloudFormation, whose `!Ref X` becomes {"Ref": "X"}."""


Template.add_multi_constructor("!", lambda _loader, tag, node: {tag: node.value})


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


def test_workers_of_other_engines_are_hardened_told_and_stopped_as_those_of_the_stack() -> None:
    worker = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["worker"]
    grace = {"2m": 120}[worker["stop_grace_period"]]
    deployment = kubernetes("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (there,) = pod["containers"]
    task = cloud_formation()["Task"]["Properties"]
    (here,) = task["ContainerDefinitions"]

    # One who stops, in time, and before that is asked whether all is well in the same way
    assert pod["terminationGracePeriodSeconds"] == here["StopTimeout"] == grace
    assert there["args"] == here["Command"] == worker["command"]
    assert there["readinessProbe"]["exec"]["command"] == here["HealthCheck"]["Command"][1:]
    assert here["HealthCheck"]["Command"] == worker["healthcheck"]["test"]
    assert "livenessProbe" not in there
    assert pod["shareProcessNamespace"] is here["LinuxParameters"]["InitProcessEnabled"] is worker["init"] is True
    # … who can do and write no more
    who = pod["securityContext"]
    assert here["User"] == f"{who['runAsUser']}:{who['runAsGroup']}" == "5000:5000"
    may = there["securityContext"]
    assert may["readOnlyRootFilesystem"] is here["ReadonlyRootFilesystem"] is worker["read_only"] is True
    assert may["capabilities"]["drop"] == here["LinuxParameters"]["Capabilities"]["Drop"] == worker["cap_drop"]
    assert may["allowPrivilegeEscalation"] is False
    assert here["DockerSecurityOptions"] == ["no-new-privileges"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "fsGroup" not in who  # it would give a whole archive to that group
    assert [name for name, volume in volumes.items() if "emptyDir" in volume] == ["tmp"]  # everybody may write to one
    folders = {"/mnt", "/data", "/logs", "/etc/pipeline"}
    assert {mount["mountPath"] for mount in there["volumeMounts"]} == folders | {"/tmp", "/run/secrets"}
    assert {mount["ContainerPath"] for mount in here["MountPoints"]} == folders
    # … and is told nothing else, and no secret
    told = {one["name"]: one.get("value") for one in there["env"]}
    at_ecs = {one["Name"]: one["Value"] for one in here["Environment"]}
    secret = {one["Name"] for one in here["Secrets"]}
    assert told.keys() | at_ecs.keys() | secret <= worker["environment"].keys()
    assert secret == {"PIPELINE_SCHEDULER_URL", "PIPELINE_DATABASE_URL"}
    for name, value in told.items():
        assert "PASSWORD" not in name or str(value).startswith("/run/secrets/"), name
        assert "://" not in str(value) or ":" not in urlsplit(str(value)).netloc.rpartition("@")[0], name


def test_other_engines_keep_a_worker_and_count_the_works_in_hand_before_they_stop_one() -> None:
    """What failed waits in the record alone; and a worker that is stopped breaks off what it has in hand."""
    scaled, owner = kubernetes("ScaledObject")["spec"], kubernetes("TriggerAuthentication")["metadata"]["name"]
    resources = cloud_formation()
    target, policy = resources["Scaled"]["Properties"], resources["ByQueue"]["Properties"]
    (trigger,) = scaled["triggers"]

    assert scaled["scaleTargetRef"]["name"] == kubernetes("Deployment")["metadata"]["name"]
    assert "replicas" not in kubernetes("Deployment")["spec"]
    assert "DesiredCount" not in resources["Service"]["Properties"]
    assert trigger["authenticationRef"]["name"] == owner
    assert all(isinstance(value, str) for value in trigger["metadata"].values())  # KEDA takes nothing else
    assert trigger["metadata"]["scaleOnInFlight"] == "true"
    assert scaled["minReplicaCount"] == target["MinCapacity"] == 1
    tracked = policy["TargetTrackingScalingPolicyConfiguration"]
    assert int(trigger["metadata"]["queueLength"]) == tracked["TargetValue"]
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == tracked["ScaleInCooldown"] == 900
    metrics = {one["Id"]: one for one in tracked["CustomizedMetricSpecification"]["Metrics"]}
    assert metrics["each"]["Expression"] == "(waiting + taken) / workers"
    assert [name for name, one in metrics.items() if one["ReturnData"]] == ["each"]


def kubernetes(kind: str) -> Any:
    objects = yaml.safe_load_all((ROOT / "docker" / "services" / "kubernetes.yaml").read_text(encoding="utf-8"))
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def cloud_formation() -> Any:
    text = (ROOT / "docker" / "services" / "ecs.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Template)["Resources"]  # a safe loader, made above
