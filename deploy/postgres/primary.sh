#!/bin/bash
# Runs once, in a primary's new data folder: the application's role and database, and what its replica needs.
#
# The image of PostgreSQL runs what lies in /docker-entrypoint-initdb.d. Passwords come from mounted files.
set -euo pipefail
secrets=${SECRETS:-/run/secrets}

# psql quotes the variables itself (:'x'), so a password may have any character.
psql -v ON_ERROR_STOP=1 --no-psqlrc --username postgres --dbname postgres \
  -v replication="$(cat "$secrets/replication")" -v app="$(cat "$secrets/app")" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication';
CREATE ROLE app LOGIN PASSWORD :'app';
CREATE DATABASE app OWNER app;
-- WAL is kept for a replica that is away, up to max_slot_wal_keep_size.
SELECT pg_create_physical_replication_slot('replica');
SQL

# "all" in pg_hba.conf does not mean replication.
echo 'host replication replicator samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
