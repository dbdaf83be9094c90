#!/usr/bin/env bash
# A Docker engine of one's own, below one temporary folder, also where no registry is reachable: sourced by `check`.
# Sets `work`, DOCKER_HOST and DOCKER_CONFIG; ends all of it when the shell that sourced it ends.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly began=$SECONDS
export DOCKER_BUILDKIT=0 # the classic builder: nothing is fetched for it

say() { printf '[%3d s] %s\n' $((SECONDS - began)) "$*"; }
fail() {
    say "FAILED: $*" >&2
    exit 1
}

# skip REASON: this machine cannot run an engine; that is no failure of the stack
skip() {
    say "skipped: $*"
    exit 0
}

install_tools() {
    local packages=()
    command -v dockerd >/dev/null || packages+=(docker.io)
    command -v iptables-save >/dev/null || packages+=(iptables)
    command -v mmdebstrap >/dev/null || packages+=(mmdebstrap)
    ((${#packages[@]} == 0)) || {
        # The engine of the machine, if Debian would start one, is not ours to start.
        [[ -e /usr/sbin/policy-rc.d ]] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && policy=yes; }
        if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1; then
            skip "cannot install ${packages[*]}"
        fi
        [[ ! ${policy:-} ]] || rm -f /usr/sbin/policy-rc.d
    }
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" 2>/dev/null || skip "cannot install compose"
    mkdir -p "$work/config/cli-plugins"
    ln -s "$work/venv/bin/docker-compose" "$work/config/cli-plugins/docker-compose"
}

end_engine() {
    local status=$? pid ids nets path table
    set +e
    if [[ -s $work/dockerd.pid ]]; then
        pid=$(<"$work/dockerd.pid")
        mapfile -t ids < <(docker ps --all --quiet)
        ((${#ids[@]} == 0)) || docker rm --force --volumes "${ids[@]}" >/dev/null
        mapfile -t nets < <(docker network ls --quiet --filter type=custom)
        ((${#nets[@]} == 0)) || docker network rm "${nets[@]}" >/dev/null
        kill "$pid"
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    fi
    ip link delete docker0 2>/dev/null
    if [[ -s $work/iptables.before ]]; then
        iptables-restore <"$work/iptables.before"
    elif [[ -e $work/iptables.before ]]; then
        # There were no tables at all, and nothing to restore would leave the engine's rules.
        iptables --policy FORWARD ACCEPT
        for table in filter nat; do iptables --table $table --flush && iptables --table $table --delete-chain; done
    fi
    [[ ! -s $work/forward.before ]] || cat "$work/forward.before" >/proc/sys/net/ipv4/ip_forward
    awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r path; do umount --lazy "$path"; done
    find /sys/fs/cgroup/*/docker -depth -type d -exec rmdir {} \; 2>/dev/null
    [[ ! ${policy:-} ]] || rm -f /usr/sbin/policy-rc.d
    if ((status != 0)) && [[ -s $work/dockerd.log ]]; then grep -E 'level=(error|fatal)' "$work/dockerd.log" | tail -n 10 >&2; fi
    rm -rf -- "$work"
    say "everything is taken away again"
    exit "$status"
}

start_engine() {
    iptables-save >"$work/iptables.before" 2>/dev/null || skip "iptables does not work here"
    cat /proc/sys/net/ipv4/ip_forward >"$work/forward.before"
    setsid dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
        --exec-opt native.cgroupdriver=cgroupfs --storage-driver overlay2 >"$work/dockerd.log" 2>&1 </dev/null &
    for _ in {1..150}; do
        docker version >/dev/null 2>&1 && break
        sleep 0.2
    done
    docker version >/dev/null 2>&1 || skip "no engine starts here: $(tail -n 1 "$work/dockerd.log")"
    say "$(docker version --format 'engine {{.Server.Version}}'), compose $(docker compose version --short)"
}

# stand_in: images made of Debian's packages under the names that our files use
stand_in() {
    local base=${STACK_BASE:-$work/base.tar}
    [[ -s $base ]] || make_base "$base"
    docker import --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8' \
        --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$base" python:3.11-slim-bookworm >/dev/null
    docker build --quiet --tag postgres:15-bookworm "$here/standin/postgres" >/dev/null 2>&1
    docker build --quiet --tag nginx:stable-bookworm "$here/standin/nginx" >/dev/null 2>&1
    say "stand-ins for python:3.11-slim-bookworm, postgres:15-bookworm and nginx:stable-bookworm"
}

# shellcheck disable=SC2016  # the hooks are read by mmdebstrap's own shells
make_base() {
    mmdebstrap --variant=minbase --quiet \
        --include=python3.11,python3-pip,python3-venv,ca-certificates,netbase,tzdata \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='for n in python python3 python3.11; do ln -sf /usr/bin/python3.11 "$1"/usr/local/bin/$n; done' \
        --customize-hook='for n in pip pip3; do ln -sf /usr/bin/pip3 "$1"/usr/local/bin/$n; done' \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        --customize-hook='printf "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" >"$1"/etc/pip.conf' \
        bookworm "$1"
}

((EUID == 0)) || skip "an engine of one's own needs root"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/stack.XXXXXX")
# The workers' user reads files below it.
chmod 755 "$work"
trap end_engine EXIT
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config
install_tools
start_engine
stand_in
