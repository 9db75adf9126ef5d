#!/bin/bash
# Train on several machines under SLURM: sbatch scripts/slurm.sh --dataset cub200 --source_path data [flags of main.py]
# A job that is cut off by its time limit is put into the queue again and continues where it was.
#SBATCH --job-name=lm-metric
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

name=${RUN_NAME:-slurm-$SLURM_JOB_ID}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# SIGTERM two minutes before the end: the run writes its checkpoint, then the job goes back into the queue.
requeue() { kill -TERM "$step"; wait "$step" || true; scontrol requeue "$SLURM_JOB_ID"; exit 0; }
trap requeue TERM

srun --kill-on-bad-exit=1 torchrun --nnodes="$SLURM_NNODES" --nproc_per_node="${GPUS_PER_NODE:-4}" --rdzv_backend=c10d \
    --rdzv_id="$SLURM_JOB_ID" --rdzv_endpoint="$first:29500" \
    main.py --savename "$name" --resume auto "$@" &
step=$!
wait "$step"
