#!/bin/sh
# Two hosts share a queue on a PostgreSQL, Redis or Valkey server; one is switched off, and the other takes its job over.
#
#     scripts/examples/two_hosts.sh postgresql://ann@localhost/jobs        or: redis://localhost/0
#
# Hosts of your own need no more than `mpdispatch supervise tasks:engine` on each, with MPDISPATCH_STORE set to that URL.
# Here both are made of namespaces of Linux, each with a name, processes and temporary files of its own.
set -eu
export MPDISPATCH_STORE="$1"
# Short times, so that you need not wait. As it is (30 s), a host may be out of reach for half a minute.
export MPDISPATCH_STALE_JOB_THRESHOLD=3 MPDISPATCH_HEARTBEAT_INTERVAL=1
PATH=$(cd "$(dirname "$0")/../.." && pwd)/.venv/bin:$PATH
folder=$(mktemp -d) east='' west=''
trap 'kill -9 $east $west 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

cat > tasks.py <<'PY'
import os
import time

from mpdispatch import Engine

engine = Engine.open(os.environ["MPDISPATCH_STORE"], concurrency=2)


@engine.job
def where(seconds: float) -> str:
    time.sleep(seconds)
    return os.uname().nodename
PY

# What follows runs on a host of this name; it ends with the process whose id is in $!.
on() {
    name=$1
    shift
    unshare --map-root-user --uts --pid --mount --fork --kill-child --mount-proc \
        sh -c 'hostname "$0" && mount -t tmpfs none /var/tmp && exec "$@"' "$name" "$@" 2> "$name.log" &
}

mpdispatch migrate
on east mpdispatch supervise tasks:engine
east=$!
on west mpdispatch supervise tasks:engine
west=$!
until mpdispatch workers | grep -q east && mpdispatch workers | grep -q west; do sleep 0.1; done
mpdispatch workers
id=$(mpdispatch enqueue where seconds:=6 -A tasks:engine)
until found=$(mpdispatch explain "$id" | grep -E 'on (east|west)'); do sleep 0.1; done
echo "$found"
case $found in *east*) kill -9 "$east" ;; *) kill -9 "$west" ;; esac
echo "That host is switched off."
mpdispatch wait "$id"
mpdispatch show "$id"
for _ in 1 2 3 4; do echo '{"seconds": 0.1}'; done | mpdispatch enqueue where --args - -A tasks:engine | xargs mpdispatch wait
