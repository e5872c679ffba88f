#!/usr/bin/env bash
# pgbench: its initialisation, its built-in scripts in every protocol mode, and whether the balances agree afterwards.
#
# Its table names are fixed and the tables are dropped at the end: give it a database of its own, and one run at a time.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/check.sh"

bench=${PGBENCH:-pgbench}
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
ask() { psql -XqAt -c "$1" 2>&1; }

# Succeeds only if every transaction did: pgbench reports some failures with status 0.
load() {
  local name=$1 out why=
  shift
  out=$("$bench" -n "$@" 2>&1 </dev/null) || why="status $?: $(tail -n 3 <<<"$out")"
  [ -n "$why" ] || grep -q 'number of failed transactions: 0 ' <<<"$out" || why="$(grep failed <<<"$out")"
  verdict "$name" "$why"
}

succeeds initialise "$bench" -i -q -s 2
equal accounts 200000 "$(ask 'select count(*) from pgbench_accounts')"
succeeds vacuum "$bench" -i -q -I v

for mode in simple extended prepared; do
  load "select_only_$mode" -S -M "$mode" -c 8 -j 2 -t 200
  load "tpc_b_$mode" -M "$mode" -c 8 -j 2 -t 50
done
load simple_update -N -c 8 -j 2 -t 50
load reconnecting -S -C -c 4 -t 20

cat >"$files/pipeline" <<'SQL'
\set a random(1, 100000)
\startpipeline
select abalance from pgbench_accounts where aid = :a;
update pgbench_tellers set tbalance = tbalance where tid = 1;
select 1;
\endpipeline
SQL
load pipeline -M extended -c 8 -j 2 -t 50 -f "$files/pipeline"

cat >"$files/savepoint" <<'SQL'
begin;
savepoint a;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 0, now());
rollback to a;
commit;
SQL
load savepoint -c 4 -t 50 -f "$files/savepoint"

# 3 modes of 8 clients with 50 transactions each, and simple_update.
equal history 1600 "$(ask 'select count(*) from pgbench_history')"
delta=$(ask 'select sum(delta) from pgbench_history')
equal balance_accounts "$delta" "$(ask 'select sum(abalance) from pgbench_accounts')"
# simple_update leaves tellers and branches alone, so these two agree only with each other.
equal balance_tellers "$(ask 'select sum(bbalance) from pgbench_branches')" "$(ask 'select sum(tbalance) from pgbench_tellers')"
succeeds clean "$bench" -i -q -I d
finish
