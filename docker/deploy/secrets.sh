#!/usr/bin/env bash
# The folder of secrets, and the certificate of the scheduler for other hosts: sourced by `deploy`.
# shellcheck disable=SC2154

secrets() {
    local home=$HOME names=(default ap_northeast) name found missing=() old="$secrets/aws" aws
    folder 700 "$secrets"
    [[ $profile == prod ]] || names=(demo default)
    aws=$(
        # those that the profile needs, those that a source names, those that an operator added
        for name in $(printf '%s\n' "${names[@]}" && profiles); do
            [[ $profile == dev || $name != demo ]] || continue
            found=$(section "$credentials" "$name")
            [[ $found ]] || found=$(section "$old" "$name")
            if [[ ! $found && $name == demo ]]; then
                found=$'[demo]\naws_access_key_id = embedded\naws_secret_access_key = embedded'
            fi
            [[ ! $found ]] || printf '%s\n\n' "$found"
        done
    )
    put 400 "$old" <<<"$aws"
    for name in "${names[@]}"; do
        [[ $aws == *"[$name]"* ]] || missing+=("[$name]")
    done
    if ((${#missing[@]} > 0)); then
        todo+=("$old has no section ${missing[*]}: $credentials has none. Needed by a source with that profile")
    fi
    for name in db_password scheduler_password; do random | once 400 "$secrets/$name"; done
    printf 'proxy_set_header Authorization "Basic %s";\n' \
        "$(printf 'pipeline:%s' "$(<"$secrets/scheduler_password")" | base64 -w 0)" | put 400 "$secrets/proxy_scheduler"
    for name in db_apps.config drs.config; do
        if [[ -r $home/.config/bdrc/docker/$name ]]; then
            put 400 "$secrets/$name" <"$home/.config/bdrc/docker/$name"
        else once 400 "$secrets/$name" </dev/null; fi
    done
    for name in smtp_password webhook callback; do once 400 "$secrets/$name" </dev/null; done
    proxy_secrets
}

# profiles: the sections that sources name, and those that are in the file already
profiles() {
    {
        sed -nE 's/^profile *= *([A-Za-z0-9_.-]+) *$/\1/p' "$dest/.config/pipeline/luigi.cfg"
        sed -nE 's/^ *\[([A-Za-z0-9_.-]+)\] *$/\1/p' "$secrets/aws"
    } 2>/dev/null | sort -u | grep -vx -e default -e demo -e ap_northeast || true
}

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

# proxy_secrets: user, password and certificate of the scheduler for other hosts
proxy_secrets() {
    local renew="rm $secrets/proxy.key $secrets/proxy.crt, deploy again, give the new proxy.crt to the other hosts"
    rm -f -- "$secrets/.key" "$secrets/.crt" # of a run that was killed
    if ! command -v openssl >/dev/null; then
        todo+=("openssl is not installed: for the profile remote make $secrets/proxy_users, proxy.crt and proxy.key yourself")
        return
    fi
    random | once 400 "$secrets/proxy_password"
    printf 'pipeline:%s\n' "$(openssl passwd -6 -stdin <"$secrets/proxy_password")" | once 400 "$secrets/proxy_users"
    if [[ ! -e $secrets/proxy.key ]]; then
        certificate
        put 400 "$secrets/proxy.crt" <"$secrets/.crt"
        put 400 "$secrets/proxy.key" <"$secrets/.key"
        rm -f -- "$secrets/.key" "$secrets/.crt"
    elif ! openssl x509 -in "$secrets/proxy.crt" -noout -checkend $((30 * 86400)) >/dev/null 2>&1; then
        todo+=("$secrets/proxy.crt ends within 30 days: $renew")
    elif openssl x509 -in "$secrets/proxy.crt" -noout -ext basicConstraints 2>/dev/null | grep -q CA:TRUE; then
        todo+=("whoever has $secrets/proxy.key can make certificates for any name, which other hosts believe: $renew")
    fi
}

# certificate: for this machine's names alone, no authority over others, and for 825 days, which is what clients accept at most
certificate() {
    local names address
    names=DNS:$(hostname),DNS:localhost
    address=$(hostname -f 2>/dev/null || hostname)
    [[ $address != *.* || $address == "$(hostname)" ]] || names+=,DNS:$address
    address=$(sed -n 's/^PROXY_ADDRESS=//p' "$dest/.env" 2>/dev/null | tail -n 1) || address=''
    [[ ! $address || $address == 0.0.0.0 || $address == :: ]] || names+=,IP:$address
    printf '%s\n' '[req]' 'distinguished_name = name' 'x509_extensions = extensions' 'prompt = no' '[name]' "CN = $(hostname)" \
        '[extensions]' "subjectAltName = $names" 'basicConstraints = critical, CA:FALSE' 'keyUsage = critical, digitalSignature' \
        'extendedKeyUsage = serverAuth' 'subjectKeyIdentifier = hash' |
        openssl req -x509 -config /dev/stdin -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -keyout "$secrets/.key" -out "$secrets/.crt" 2>/dev/null
}
