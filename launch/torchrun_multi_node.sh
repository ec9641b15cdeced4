#!/usr/bin/env bash
# Run selffilter on several nodes: start this once on each of them, with the same arguments.
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 launch/torchrun_multi_node.sh configs/datacomp_large.yaml
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=node0 launch/torchrun_multi_node.sh configs/datacomp_large.yaml
#
# Everything after the script's name goes to `selffilter run`: the config, key=value words, --only.
# All nodes must see pool, index and runs_dir at the same paths of a shared POSIX file system.
# To stop, send USR1 (or TERM) to this script on every node: node 0 saves, the others leave with it.
#
#   NNODES           number of nodes                                             [of Slurm's step]
#   NODE_RANK        this node's number, from 0                                  [of Slurm's step]
#   MASTER_ADDR      a name or address of node 0 that all nodes can reach        (must be given)
#   MASTER_PORT      a free port there                                           [29500]
#   NPROC_PER_NODE   processes a node, alike on all; NNODES × NPROC_PER_NODE must divide
#                    train.global_batch_size                                     [gpu: one each]
#   MAX_RESTARTS     how often all processes of all nodes begin again, from the last checkpoint,
#                    when one has crashed or was killed (not after a stop or a mistake); alike on
#                    all nodes. With more than 0 the nodes must reach each other by name         [0]
#   NODE_ADDR        with MAX_RESTARTS: this node's name or address              [its host name]
#   PYTHON           the interpreter that has selffilter                         [python]
#
# Exit code: 0 finished, 75 stopped and to be gone on with, 1 failed (the reason is on the screen of
# the node where it happened).
set -euo pipefail

(($#)) || { echo "usage: $0 CONFIG [KEY=VALUE]... [--only STAGE]" >&2; exit 2; }

NNODES="${NNODES:-${SLURM_STEP_NUM_NODES:?set NNODES to the number of nodes}}"
NODE_RANK="${NODE_RANK:-${SLURM_NODEID:?set NODE_RANK to the number of this node, from 0}}"
: "${MASTER_ADDR:?set MASTER_ADDR to a name or address of node 0}"

# One thread a process, torchrun's own choice; said here so that it does not warn.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

MAX_RESTARTS="${MAX_RESTARTS:-0}"
MASTER_PORT="${MASTER_PORT:-29500}"
if ((MAX_RESTARTS)); then
    # With fixed ranks the nodes never learn that another one has started its processes again.
    # Here they do, and join it. They are numbered by address, so rank 0 may not be on node 0.
    is_host=false
    if ((NODE_RANK == 0)); then is_host=true; fi
    meeting=(
        --rdzv-backend=c10d --rdzv-id="selffilter-$MASTER_PORT"
        --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --rdzv-conf="is_host=$is_host"
    )
    if [[ -n ${NODE_ADDR:-} ]]; then meeting+=(--local-addr="$NODE_ADDR"); fi
else
    meeting=(--node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT")
fi

exec bash "$(dirname "${BASH_SOURCE[0]}")/stoppable.sh" \
    "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="$NNODES" \
    "${meeting[@]}" \
    --nproc-per-node="${NPROC_PER_NODE:-gpu}" \
    --max-restarts="$MAX_RESTARTS" \
    -m selffilter run "$@"
