#!/usr/bin/env bash
# What `build` puts into an image for a site: sourced by `check`, which says what `root` and `work` are.
# shellcheck disable=SC2154

# site_build: an image with a site's own scripts, audit tool, requirements and configuration
site_build() {
    local site=$work/site
    mkdir -p "$site"/{bin,config/auditTool,deb/DEBIAN,deb/usr/bin}
    printf '#!/bin/bash\necho "the sync of the site"\n' >"$site/bin/syncOneWork.sh"
    echo 'sync: {web: false}' >"$site/config/site-sync.yml"
    printf '#!/bin/bash\necho "the audit tool of the site"\n' >"$site/deb/usr/bin/audit-tool"
    chmod +x "$site/deb/usr/bin/audit-tool"
    printf 'Package: audit-tool\nVersion: 1\nArchitecture: all\nMaintainer: site\nDescription: none\n' >"$site/deb/DEBIAN/control"
    dpkg-deb --build --root-owner-group "$site/deb" "$site/audit-tool.deb"
    echo 'tomli==2.0.1' >"$site/site.txt"
    echo 'luigi<3' >"$site/old.txt"
    ! "$root/build" --tag site-pipeline --requirements "$site/old.txt" 2>"$site/conflict" || return 1
    grep -q 'luigi' "$site/conflict" && grep -q 'conflict' "$site/conflict"
    "$root/build" --tag site-pipeline --sync-scripts "$site/bin" --audit-tool "$site/audit-tool.deb" \
        --requirements "$site/site.txt" --config "$site/config"
    # Who does not ask `build` comes to the same gate.
    "$root/build" --gather-only --build-dir "$site/context"
    touch "$site/context/pipeline/id_rsa"
    ! docker build "$site/context" >"$site/gate" 2>&1 || return 1
    grep -q 'pipeline/id_rsa: is no file of the program' "$site/gate"
    docker run --rm --network none --read-only --entrypoint bash site-pipeline -c '
        set -e
        bash /app/bin/syncOneWork.sh && audit-tool
        cat /home/pipeline/.config/bdrc/site-sync.yml && python -c "import tomli; print(tomli.__name__)"' >"$site/said"
    diff "$site/said" - <<'END'
the sync of the site
the audit tool of the site
sync: {web: false}
tomli
END
}
