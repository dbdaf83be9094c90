#!/usr/bin/env bash
# A Docker engine of one's own, below one temporary folder, also where no registry is reachable: sourced by `check`.
# Sets `work`, DOCKER_HOST and DOCKER_CONFIG; ends all of it when the shell that sourced it ends, by whatever.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly began=$SECONDS parent=${TMPDIR:-/var/tmp} needed_mib=3000
export DOCKER_BUILDKIT=0 # the classic builder: nothing is fetched for it

say() { printf '[%3d s] %s\n' $((SECONDS - began)) "$*"; }
on_failure() { :; } # who sources this may tell more
fail() {
    trap - ERR
    say "FAILED: $*" >&2
    on_failure >&2
    exit 1
}

# cannot REASON: no engine runs on this machine; what to do about it
cannot() { fail "$*; where this cannot be helped, CI_STACK=0 .ci/run leaves the stack out"; }

declare -A jobs=()

# start NAME COMMAND…: in the background, its output in a file; `finish NAME` waits for it, and shows that if it failed
start() {
    local name=$1
    shift
    "$@" >"$work/log.$name" 2>&1 &
    jobs[$name]=$!
}

finish() {
    local name
    for name in "$@"; do
        wait "${jobs[$name]}" || {
            tail -n 40 "$work/log.$name" >&2
            fail "$name; its output is above"
        }
        unset "jobs[$name]"
    done
}

# quietly NAME COMMAND…: start and finish. A signal ends the wait, which it would not do with a command in front.
quietly() { start "$@" && finish "$1"; }

end_children() {
    local pid
    for pid in $(ps -o pid= --ppid "$1"); do
        end_children "$pid"
        kill "$pid" 2>/dev/null
    done
}

install_packages() {
    local probe package packages=()
    while read -r probe package; do
        command -v "$probe" >/dev/null || packages+=("$package")
    done <<'END'
dockerd docker.io
iptables-save iptables
mmdebstrap mmdebstrap
ip iproute2
openssl openssl
ps procps
END
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    ((${#packages[@]} == 0)) && return
    command -v apt-get >/dev/null || cannot "there is no apt-get to install ${packages[*]} with"
    # The engine of the machine, if Debian would start one, is not ours to start.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        touch "$work/policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    quietly apt bash -c 'apt-get update -qq && exec apt-get install -y -qq --no-install-recommends "$@"' install "${packages[@]}"
    [[ ! -e $work/policy ]] || rm -f /usr/sbin/policy-rc.d "$work/policy"
}

tools() {
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/../../locks/engine.txt"
    mkdir -p "$work/config/cli-plugins"
    ln -sf "$work/venv/bin/docker-compose" "$work/config/cli-plugins/docker-compose"
}

# remember, put_back FOLDER: the machine's packet filters and forwarding, as they were
remember() {
    iptables-save >"$work/iptables.before" || cannot "iptables does not work here"
    ip6tables-save >"$work/ip6tables.before" 2>/dev/null || rm -f "$work/ip6tables.before"
    cat /proc/sys/net/ipv4/ip_forward >"$work/forward.before"
}

put_back() {
    local filter table before
    for filter in iptables ip6tables; do
        before=$1/$filter.before
        [[ -e $before ]] || continue
        # What was not there before is in no dump: it is emptied first.
        $filter --policy FORWARD ACCEPT
        for table in filter nat mangle raw; do
            grep -q "^\*$table" "$before" || { $filter --table $table --flush && $filter --table $table --delete-chain; }
        done
        [[ ! -s $before ]] || $filter-restore <"$before"
    done 2>/dev/null
    [[ ! -s $1/forward.before ]] || cat "$1/forward.before" >/proc/sys/net/ipv4/ip_forward
}

# end_engine FOLDER: everything that a check with this folder has made
end_engine() {
    local folder=$1 pid ids nets path
    local -x DOCKER_HOST=unix://$folder/docker.sock
    if [[ -s $folder/dockerd.pid ]]; then
        pid=$(<"$folder/dockerd.pid")
        mapfile -t ids < <(timeout 20 docker ps --all --quiet)
        ((${#ids[@]} == 0)) || timeout 60 docker rm --force --volumes "${ids[@]}" >/dev/null
        mapfile -t nets < <(timeout 20 docker network ls --quiet --filter type=custom)
        ((${#nets[@]} == 0)) || timeout 60 docker network rm "${nets[@]}" >/dev/null
        kill "$pid"
        for _ in {1..200}; do
            kill -0 "$pid" || break
            sleep 0.1
        done
        kill -KILL "$pid"
    fi 2>/dev/null
    [[ ! -e $folder/forward.before ]] || ip link delete docker0 2>/dev/null
    put_back "$folder"
    awk -v folder="$folder" '$2 == folder || index($2, folder "/") == 1 { print $2 }' /proc/mounts | sort -r | while read -r path; do umount --lazy "$path"; done
    find /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker -depth -type d -exec rmdir {} \; 2>/dev/null
    [[ ! -e $folder/policy ]] || rm -f /usr/sbin/policy-rc.d
    rm -rf -- "$folder"
}

end_all() {
    local status=$?
    trap - ERR
    trap '' INT TERM HUP # this has to come to its end
    set +e
    end_children $$
    ((status == 0)) || ! [[ -s $work/dockerd.log ]] || grep -E 'level=(error|fatal)' "$work/dockerd.log" | tail -n 10 >&2
    end_engine "$work"
    say "everything is taken away again"
    exit "$status"
}

# end_leftovers: of a check that was killed before it could tidy up
end_leftovers() {
    local folder
    for folder in "$parent"/stack.??????; do
        if [[ ! -s $folder/owner ]] || kill -0 "$(<"$folder/owner")" 2>/dev/null; then continue; fi
        say "an earlier check was killed: taking away $folder"
        (set +e && end_engine "$folder") || true
    done
}

start_engine() {
    remember
    # No child of ours: it is ended by its pid file, after what runs in it.
    setsid --fork dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
        --exec-opt native.cgroupdriver=cgroupfs --storage-driver overlay2 >"$work/dockerd.log" 2>&1 </dev/null
    for _ in {1..150}; do
        docker version >/dev/null 2>&1 && break
        ! grep -q 'failed to start daemon' "$work/dockerd.log" || break
        sleep 0.2
    done
    docker version >/dev/null 2>&1 || cannot "no Docker engine starts here: $(grep -E 'failed|error' "$work/dockerd.log" | tail -n 1)"
}

# import_base: stands in for the official image
import_base() {
    docker import --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8' \
        --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$1" python:3.11-slim-bookworm
}

# make_base FILE: of Debian's packages. Their lists stay, so that each build finds them already there.
# shellcheck disable=SC2016  # the hooks are read by mmdebstrap's own shells
make_base() {
    TMPDIR=$work mmdebstrap --variant=minbase --quiet --skip=cleanup/apt/lists \
        --include=python3.11,python3-pip,python3-venv,ca-certificates,netbase,tzdata \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='for n in python python3 python3.11; do ln -sf /usr/bin/python3.11 "$1"/usr/local/bin/$n; done' \
        --customize-hook='for n in pip pip3; do ln -sf /usr/bin/pip3 "$1"/usr/local/bin/$n; done' \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        --customize-hook='printf "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" >"$1"/etc/pip.conf' \
        bookworm "$1.part.tar" # mmdebstrap goes by the suffix
    mv "$1.part.tar" "$1"
}

((EUID == 0)) || cannot "a Docker engine of one's own needs root"
# in_memory FOLDER: where there is plenty, images are made there: a disk that others use too takes many times as long
in_memory() {
    (($(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo) >= 3 * needed_mib)) || return 0
    mount -t tmpfs -o "size=$((2 * needed_mib))m" stack "$1" 2>/dev/null || true
}

(($(df --output=avail -m "$parent" | tail -n 1) >= needed_mib)) || cannot "less than $needed_mib MiB are free below $parent (TMPDIR names another folder)"
work=$(mktemp -d "$parent/stack.XXXXXX")
trap end_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
in_memory "$work"
echo $$ >"$work/owner"
# The workers' user reads files below it.
chmod 755 "$work"
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config
base=${STACK_BASE:-$work/base.tar}
install_packages
end_leftovers
[[ -s $base ]] || start base make_base "$base"
start tools tools
start_engine
finish tools
say "$(docker version --format 'engine {{.Server.Version}}'), compose $(docker compose version --short)"
