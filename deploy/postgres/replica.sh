#!/bin/bash
# The entry point of a replica: copies its primary once, then streams from it. Runs as user postgres.
#
# PRIMARY is the primary's host; PGDATA must not be the mounted folder itself but lie in it, so that a finished
# copy can be put in place by one rename. An interrupted copy is thrown away and made anew.
set -euo pipefail
: "${PRIMARY:?}" "${PGDATA:?}"
folder=$(dirname "$PGDATA")
passfile=$folder/passfile

# libpq refuses a password file that others may read; its separators are escaped.
umask 077
sed 's/[\\:]/\\&/g; s/^/*:*:*:replicator:/' "${SECRETS:-/run/secrets}/replication" >"$passfile"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA.new"
  until pg_basebackup --pgdata="$PGDATA.new" --slot=replica --wal-method=stream --checkpoint=fast --write-recovery-conf \
    --dbname="host=$PRIMARY port=${PRIMARY_PORT:-5432} user=replicator passfile=$passfile"; do
    rm -rf "$PGDATA.new"
    echo "replica: no copy of $PRIMARY yet, trying again" >&2
    sleep 1
  done
  mv "$PGDATA.new" "$PGDATA"
fi
exec "$@"
