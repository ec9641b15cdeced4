#!/usr/bin/env bash
# Run selffilter on all GPUs of this node.
#
#   launch/torchrun_single_node.sh configs/img2dataset.yaml pool.shards='[/data/pool]'
#
# Everything after the script's name goes to `selffilter run`: the config, key=value words, --only.
# Ctrl-C (or TERM or USR1 to this script) saves and stops; the same command goes on with the run.
#
#   NPROC_PER_NODE   processes, one a GPU; must divide train.global_batch_size   [gpu: one each]
#   MAX_RESTARTS     how often all processes begin again, from the last checkpoint, when one has
#                    crashed or was killed (not after a stop or a mistake)       [2]
#   PYTHON           the interpreter that has selffilter                         [python]
#
# Without a GPU: NPROC_PER_NODE=2 launch/torchrun_single_node.sh … hardware.accelerator=cpu
# Exit code: 0 finished, 75 stopped and to be gone on with, 1 failed (the reason is on the screen).
set -euo pipefail

(($#)) || { echo "usage: $0 CONFIG [KEY=VALUE]... [--only STAGE]" >&2; exit 2; }

# One thread a process, torchrun's own choice; said here so that it does not warn.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

exec bash "$(dirname "${BASH_SOURCE[0]}")/stoppable.sh" \
    "${PYTHON:-python}" -m torch.distributed.run \
    --standalone \
    --nproc-per-node="${NPROC_PER_NODE:-gpu}" \
    --max-restarts="${MAX_RESTARTS:-2}" \
    -m selffilter run "$@"
