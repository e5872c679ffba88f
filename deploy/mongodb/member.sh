#!/bin/bash
# The entry point of a member of the replica set: mongod with what is given here. Runs as user mongodb.
#
# The member that has MEMBERS, the addresses of all with its own first, makes the set of them, once, beside its mongod.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")
export SECRETS=${SECRETS:-/run/secrets} PORT=${PORT:-27017}

# mongod refuses a key that others may read.
key=$(mktemp)
cat "$SECRETS/docs-key" >"$key"

initiate() {
  until mongosh --quiet --port "$PORT" --file "$folder/initiate.js"; do
    # mongod takes the place of this shell, and its number.
    kill -0 $$ 2>/dev/null || exit 1
    echo "member: no replica set yet, trying again" >&2
    sleep 1
  done
}

# In a shell of its own, so that mongod has no child that it does not know.
if [ -n "${MEMBERS:-}" ]; then
  (initiate &)
fi
exec mongod --port "$PORT" --keyFile "$key" --replSet docs "$@"
