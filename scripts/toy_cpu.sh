#!/usr/bin/env bash
# The ablation at the scale of a CPU: a small network from scratch on the embedded characters, or, with DATA=FOLDER, on
# any folder of images that --dataset image_folder takes. One run at a time on each core, each on one thread, since the
# numbers of a CPU depend on how many threads compute them.
# Time: some 4 hours on two cores for 280 runs (56 rows, 5 seeds) of 32 epochs on the characters; docs/reproducing.md.
# scripts/lib.sh explains SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/ablation_rows.sh"
GPUS=${GPUS:-$(for ((i = 0; i < $(nproc 2> /dev/null || echo 1); i++)); do echo -n "cpu "; done)}
export OMP_NUM_THREADS=1
begin toy_cpu
dataset=glyphs
if [[ -n ${DATA:-} ]]; then
    dataset=image_folder
    need_data "images"
fi
common+=(--arch convnet_normalize --eval_every 32 --map_images 0)
ablation_rows
train
ablation_tables
end
