#!/usr/bin/env bash
# The official image's contract in short: POSTGRES_USER, _PASSWORD or _PASSWORD_FILE, _DB; /docker-entrypoint-initdb.d/*.{sh,sql}
set -euo pipefail
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"; chown -R postgres:postgres "$PGDATA"; chmod 700 "$PGDATA"
  # the password file may be readable by root only
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
  export POSTGRES_PASSWORD
  exec setpriv --reuid postgres --regid postgres --init-groups bash "$0" "$@"
fi
user=${POSTGRES_USER:-postgres}; db=${POSTGRES_DB:-$user}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set}"
  initdb -U "$user" -A scram-sha-256 --auth-local=trust -E UTF8 --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") >/dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses='' -k /tmp" start >/dev/null
  [ "$db" = postgres ] || createdb -h /tmp -U "$user" "$db"
  for f in /docker-entrypoint-initdb.d/*; do case "$f" in
    *.sh) bash "$f";; *.sql) psql -v ON_ERROR_STOP=1 -h /tmp -U "$user" -d "$db" -f "$f";; esac; done
  pg_ctl -w -m fast stop >/dev/null
fi
unset POSTGRES_PASSWORD
exec "$@" -c listen_addresses='*' -k /tmp
