#!/usr/bin/env bash
# The ablation at the scale of a CPU: a small network from scratch on the built-in characters, or, with DATA=FOLDER, on
# any folder of images that --dataset image_folder takes. One run at a time on each core, each on one thread, since the
# numbers of a CPU depend on how many threads compute them.
# Time of its 215 runs (120 to tune, 19 rows of 5 seeds) on two idle cores: 2 h 3 min for the built-in characters (400
# steps a run) on an AMD EPYC without AVX-512; 48 min for handwriting (340 steps) on an Intel Xeon, where a run takes half
# as long.
# scripts/lib.sh and scripts/tuning.sh explain SEEDS, TUNE_SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN,
# scripts/ablation_rows.sh ROWS="method memory weights parts published gpw proxies rivals".
TUNE_SEEDS=${TUNE_SEEDS:-6 12 13}     # one seed's validation classes choose little better than chance among near equals
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/tuning.sh"
source "$(dirname "$0")/ablation_rows.sh"
on_every_core
begin toy_cpu
dataset=glyphs
if [[ -n ${DATA:-} ]]; then
    dataset=image_folder
    need_data "images"
fi
common+=(--arch convnet_normalize --n_epochs 20 --tau 16 19 --eval_every 20 --evaluation_metrics e_recall@1 mAP_r
         --no-figures --cache disk --cache_path "$OUT/cache")
rates="2e-3 4e-3" betas="0.2,0.4,0.6,0.8" neg_weights="2.5,5.0,10.0,20.0" taus="0.02,0.04,0.08,0.16"
ablation method memory weights
