#!/usr/bin/env bash
# The .env that compose reads, and what an operator set in it: sourced by `deploy`, which says what the variables are.
# shellcheck disable=SC2154

# env_file: .env from its template; what an operator set in the old one stays, as long as the profile is the same
env_file() {
    local line name value old="$dest/.env"
    local -A known=()
    while IFS= read -r line; do
        name=${line%%=*} value=''
        if [[ $line == [A-Z]*=* ]]; then
            known[$name]=yes
            # Who runs it and what it is made of is said on this command line.
            case $name in SYNC_ACCESS_*ID | PIPELINE_SOURCE) ;; ARCH_ROOT) [[ $init_env ]] || value=$(kept_value "$name") ;; *) value=$(kept_value "$name") ;; esac
        fi
        printf '%s\n' "${value:-$line}"
    done < <(env_template)
    # What the operator added himself
    [[ $new_profile ]] || while IFS= read -r line; do
        [[ $line != [A-Za-z_]*=* || ${known[${line%%=*}]:-} ]] || printf '%s\n' "$line"
    done <"$old"
}

# kept_value NAME: the line of .env that sets it, as long as the profile is the same
kept_value() {
    [[ $new_profile ]] || grep "^$1=" "$dest/.env" | tail -n 1 || true
}

env_template() {
    local arch_root=/mnt marker=.mounted profiles='' propagation=rprivate host
    if [[ $profile == dev ]]; then arch_root=./archive marker='' profiles=demo; fi
    [[ ! $init_env ]] || arch_root=$init_env
    [[ $(cd -- "$dest" && findmnt --noheadings --output PROPAGATION --target "$arch_root" 2>/dev/null) != *shared* ]] || propagation=rslave
    host=$(hostname)
    cat <<END
# The only source of variables for docker compose. Edit as you like: deploy keeps what you set.
# dev or prod; deploy --dev|--prod changes it
PIPELINE_ENV=$profile
COMPOSE_PROJECT_NAME=bag-pipeline-$profile
# a list of: demo (moto's S3 and SQS with sample bags), metrics (figures for Prometheus), notify (mail and webhook),
# remote (the scheduler for other hosts)
COMPOSE_PROFILES=$profiles
# what the image is built of, and its name
PIPELINE_SOURCE=$source
PIPELINE_IMAGE=bag-pipeline
SECRETS=./.docker-secrets
# the folder of Archive0 to Archive3
ARCH_ROOT=$arch_root
# rslave: what is mounted in it later is seen by workers that run; where the system does not share mounts, rprivate
ARCH_PROPAGATION=$propagation
# a file that lies in each mounted share, and not in the folder below it: a share without it is not written to
MOUNT_MARKER=$marker
# who the workers are, and who owns what they write
SYNC_ACCESS_UID=$uid
SYNC_ACCESS_GID=$gid
# this machine's name in the record
PIPELINE_HOST=$host
WORKERS=1
# works at a time in each worker, and the memory of each
LANES=2
WORKER_MEMORY=2g
# the scheduler's page, on 127.0.0.1
LUIGID_PORT=8082
# the scheduler for other hosts (profile remote)
PROXY_ADDRESS=0.0.0.0
PROXY_PORT=8443
# figures for Prometheus (profile metrics), on 127.0.0.1
METRICS_PORT=9108
# mail of profile notify: the server, starttls or tls or none, and where there is a user his password in .docker-secrets/smtp_password
SMTP_HOST=
SMTP_PORT=587
SMTP_SECURITY=starttls
SMTP_USER=
MAIL_FROM=
MAIL_TO=
# its webhook: slack or json says that there is one, .docker-secrets/webhook holds its address
WEBHOOK_FORMAT=
# another database than the stack's own: its URL; or BDRC's form, prod:/run/secrets/db_apps
DATABASE_URL=
DATABASE_DB_CONFIG=
TZ=${TZ:-$(cat /etc/timezone 2>/dev/null || echo Etc/UTC)}
END
}

# passwords_in_files: says which files hold one, and where it belongs; they are not for everybody to read
passwords_in_files() {
    local file
    for file in "$dest"/.env.*; do [[ ! -f $file ]] || own "$(readable 644 "$file")" "$file"; done
    for file in "$dest/.env" "$dest"/.config/*/*; do
        if [[ ! -f $file ]] || ! holds_password "$file"; then continue; fi
        todo+=("$file holds a password, so others may not read it. It belongs into $secrets, as db_password for the one of DATABASE_URL")
    done
}
