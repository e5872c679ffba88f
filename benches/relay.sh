#!/usr/bin/env bash
# Compares the bare relay's shapes with PgBouncer in one run: CPU of the proxy per query, by `pgbench -S`.
#
#   benches/relay.sh [--rounds 5] [--seconds 5] [--clients 16,64] [--modes simple,extended]
#                    [--pgbouncer /path/to/pgbouncer] [--results FILE]
#
# Makes a throw-away PostgreSQL cluster in /dev/shm and stops all it started. Needs cargo, Python 3, PostgreSQL 15
# (PGBIN names its programs' folder) and PgBouncer. As root, the cluster and PgBouncer run as user postgres.
# Targets take turns in random order: only ratios within one run mean anything.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=5 clients=16,64 modes=simple,extended pgbouncer=$(command -v pgbouncer || true) results=
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2 ;; --seconds) seconds=$2 ;; --clients) clients=$2 ;; --modes) modes=$2 ;;
    --pgbouncer) pgbouncer=$2 ;; --results) results=$2 ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
[ -x "$pgbouncer" ] || { echo "PgBouncer was not found, give --pgbouncer" >&2; exit 2; }
pgbin=${PGBIN:-/usr/lib/postgresql/15/bin}
PATH=$pgbin:$PATH
# Below the range from which the kernel takes ports of outgoing connections.
base=${PORT:-17310}
as=() ; [ "$(id -u)" != 0 ] || as=(runuser -u postgres --)
export PGSSLMODE=disable PGUSER=postgres PGHOST=127.0.0.1

cargo build --quiet --release -p mothership-benches --bin bare_relay
relay=${CARGO_TARGET_DIR:-target}/release/bare_relay

home=$(mktemp -d /dev/shm/mothership-relay.XXXXXX)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
  [ ! -d "$home/data" ] || "${as[@]}" "$pgbin/pg_ctl" -D "$home/data" -m fast stop >/dev/null 2>&1 || true
  rm -rf "$home"
}
trap stop EXIT
trap "exit 1" INT TERM
[ "$(id -u)" != 0 ] || chown postgres "$home"

"${as[@]}" initdb -D "$home/data" -U postgres -A trust -N >/dev/null
"${as[@]}" pg_ctl -D "$home/data" -l "$home/log" -w start -o \
  "-p $base -k $home -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=256MB -c fsync=off" >/dev/null
createdb -p "$base" bench
pgbench -p "$base" -i -q -s 5 bench >/dev/null 2>&1

cat >"$home/pgbouncer.ini" <<END
[databases]
bench = host=127.0.0.1 port=$base dbname=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $((base + 1))
auth_type = any
auth_file = /dev/null
pool_mode = transaction
default_pool_size = 20
max_client_conn = 1000
unix_socket_dir =
logfile = $home/pgbouncer.log
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
server_idle_timeout = 3600
END
sed -i 's/^bench = .*/& user=postgres/' "$home/pgbouncer.ini"
"${as[@]}" "$pgbouncer" -q "$home/pgbouncer.ini" >/dev/null 2>&1 & pids+=($!)
targets="pgbouncer:$((base + 1)):$!"
start_relay() { # name, port, arguments
  local name=$1 port=$2; shift 2
  "$relay" --listen "$port" --server "127.0.0.1:$base" --database bench "$@" >"$home/$name.log" 2>&1 & pids+=($!)
  targets="$targets $name:$port:$!"
}
start_relay one-immediate $((base + 2)) --threads 1 --send immediate
start_relay one-plain $((base + 3)) --threads 1 --send plain
start_relay one-batched $((base + 4)) --threads 1 --send auto
start_relay two-batched $((base + 5)) --threads 2 --send auto
for target in $targets; do
  port=${target#*:}; port=${port%:*}
  for _ in $(seq 50); do psql -qAt -p "$port" bench -c "select 1" >/dev/null 2>&1 && continue 2; sleep 0.1; done
  echo "no answer from $target" >&2; tail -n 5 "$home"/*.log >&2; exit 1
done

export TARGETS=$targets ROUNDS=$rounds SECONDS_EACH=$seconds CLIENTS=$clients MODES=$modes RESULTS=$results
export POSTMASTER; POSTMASTER=$(head -n 1 "$home/data/postmaster.pid")
python3 - <<'END'
import json, os, pathlib, random, re, resource, statistics, subprocess, sys, time

def nanoseconds(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(task.read_text().split()[0])
    return total

def descendants(pid):
    """The process and its children; PgBouncer may have been started through runuser or a wrapper."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            todo += [int(child) for child in children.read_text().split()]
    return found

def cpu(pid):
    return sum(nanoseconds(p) for p in descendants(pid))

def run(port, pid, clients, mode, seconds):
    postmaster = int(os.environ["POSTMASTER"])
    load = resource.getrusage(resource.RUSAGE_CHILDREN)
    proxy, servers = cpu(pid), cpu(postmaster)
    command = ["pgbench", "-S", "-n", "-M", mode, "-c", str(clients), "-j", "2", "-T", str(seconds), "-p", str(port), "bench"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    proxy, servers = cpu(pid) - proxy, cpu(postmaster) - servers
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    load = (after.ru_utime + after.ru_stime - load.ru_utime - load.ru_stime) * 1e9
    queries = int(re.search(r"actually processed: (\d+)", output)[1])
    assert "failed transactions: 0" in output, output
    tps = float(re.search(r"tps = ([\d.]+)", output)[1])
    return {"proxy": proxy / queries / 1e3, "total": (proxy + servers + load) / queries / 1e3, "tps": tps}

targets = [(name, int(port), int(pid)) for name, port, pid in (t.split(":") for t in os.environ["TARGETS"].split())]
rounds, seconds = int(os.environ["ROUNDS"]), float(os.environ["SECONDS_EACH"])
cases = [(int(c), m) for c in os.environ["CLIENTS"].split(",") for m in os.environ["MODES"].split(",")]
seed = int(time.time())
random.seed(seed)
print("seed", seed, flush=True)
figures = {}
for target in targets:
    run(*target[1:], 16, "simple", 1)
for number in range(rounds):
    for case in cases:
        for name, port, pid in random.sample(targets, len(targets)):
            figures[case, name, number] = run(port, pid, *case, max(1, round(seconds)))
            if os.environ["RESULTS"]:
                with open(os.environ["RESULTS"], "a") as out:
                    line = {"round": number, "target": name, "clients": case[0], "mode": case[1]}
                    print(json.dumps(line | figures[case, name, number]), file=out)
base = targets[0][0]
print(f"| clients, mode | target | proxy us/query | proxy ratio (min to max) | total us/query | total ratio | tps ratio |")
print("|---|---|---|---|---|---|---|")
for case in cases:
    for name, _, _ in targets:
        own = [figures[case, name, n] for n in range(rounds)]
        ratio = {k: sorted(f[k] / figures[case, base, n][k] for n, f in enumerate(own)) for k in own[0]}
        middle = {k: statistics.median(f[k] for f in own) for k in own[0]}
        print(f"| {case[0]}, {case[1]} | {name} | {middle['proxy']:.1f} | {statistics.median(ratio['proxy']):.2f}"
              f" ({ratio['proxy'][0]:.2f} to {ratio['proxy'][-1]:.2f}) | {middle['total']:.1f}"
              f" | {statistics.median(ratio['total']):.2f} | {statistics.median(ratio['tps']):.2f} |")
END
for name in one-immediate one-plain one-batched two-batched; do sed "s/^/$name: /" "$home/$name.log" >&2; done
