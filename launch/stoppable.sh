#!/usr/bin/env bash
# Run torchrun so that the run can be asked to stop; used by the other scripts.
#
#   stoppable.sh COMMAND [ARGUMENT]...
#
# USR1, TERM, INT (Ctrl-C) or HUP to this script asks every worker on this node to stop: selffilter
# finishes the step, saves, and exits. Exit code: 0 the run is finished; 75 it was asked to stop and
# the same command goes on with it; otherwise torchrun's own (1 whatever went wrong in a worker).
#
# Why not let torchrun pass the signal on? Seen with torch 2.15: USR1 kills torchrun and leaves its
# workers behind; TERM and INT go to whole process groups, data loader processes included, and after
# 30 s the workers are killed, saved or not; and the 75 of a worker becomes a 1.
set -euo pipefail

(($#)) || { echo "usage: stoppable.sh COMMAND [ARGUMENT]..." >&2; exit 2; }

launcher=""
asked=0

# A process that is only just beginning dies of USR1, and torchrun may start all of them again: where
# this file is, they end at once.
home="$(mktemp -d)"
export SELFFILTER_STOP_FILE="$home/asked"
trap 'rm -rf "$home"' EXIT

# The workers are torchrun's children. Where there are none yet, nothing is lost by ending torchrun.
# shellcheck disable=SC2329 # the trap calls it
pass_on() {
    asked=$((asked + 1))
    : > "$SELFFILTER_STOP_FILE"
    [[ -z $launcher ]] && return
    pkill -USR1 -P "$launcher" || kill -TERM "$launcher" || true
}

# A second Ctrl-C means: at once.
# shellcheck disable=SC2329 # the trap calls it
interrupt() {
    if ((asked)); then kill -TERM "$launcher" || true; else pass_on; fi
}

trap pass_on USR1 TERM HUP
trap interrupt INT

# Job control gives torchrun a process group of its own, so that Ctrl-C reaches this script alone.
set -m
"$@" &
launcher=$!
if ((asked)); then kill -TERM "$launcher"; fi

# A trap ends `wait` early with a code above 128: then wait again.
while true; do
    before=$asked
    code=0
    wait "$launcher" || code=$?
    if ((asked == before)); then break; fi
done

if ((asked && code)); then
    echo "$(basename "$0"): stopped as asked; the same command goes on with the run." >&2
    exit 75
fi
exit "$code"
