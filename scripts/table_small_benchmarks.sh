#!/usr/bin/env bash
# CUB200-2011 and CARS196 with EfficientNet-Lite0 (ImageNet weights) at 128 pixels, for a CPU: tuned losses, the method,
# and the method with one part changed. WEIGHTS=FOLDER holds timm's tf_efficientnet_lite0 weights (without it they are
# downloaded), SIDE=160 chooses another size, DATASETS="cub200" one data set, EPOCHS=5 how long rows train (10 epochs, of
# 42 or 57 steps each), TUNE_FLAGS how long candidates do (4 epochs). One run at a time on each core, each on one thread,
# since the numbers of a CPU depend on how many threads compute them. A run takes 20 to 40 minutes on one core of 2024,
# the whole table of two data sets about two days on two.
# FROZEN=1 trains only what follows the backbone, on features that are computed once (docs/training.md): a run takes
# half a minute to 3 minutes. SCREEN=1 trains the candidates in this way and the rows whole.
# scripts/lib.sh and scripts/tuning.sh explain SEEDS, TUNE_SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN,
# scripts/ablation_rows.sh ROWS="method controls".
TUNE_FLAGS=${TUNE_FLAGS:---n_epochs 4 --tau 3 --eval_every 4}
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/tuning.sh"
source "$(dirname "$0")/ablation_rows.sh"
on_every_core
epochs=${EPOCHS:-10}
begin table_small_benchmarks
need_data "cub200 and cars196"
metrics="e_recall@1 e_recall@2 e_recall@4 e_recall@8 nmi mAP_r"
costs="seconds_per_epoch peak_memory_mib"
# shellcheck disable=SC2206   # several words on purpose
common+=(--arch timm.tf_efficientnet_lite0_frozen_normalize --image_size "${SIDE:-128}" --bs 112
         --n_epochs "$epochs" --tau $((epochs * 4 / 5)) --eval_every "$epochs" --kernels 0
         --evaluation_metrics $metrics --no-figures --cache disk --cache_path "$OUT/cache")
if [[ -n ${WEIGHTS:-} ]]; then common+=(--weights_dir "$(absolute "$WEIGHTS")"); fi
rivals="margin multisimilarity proxyanchor supcon smoothap"
rates="1e-4 2e-4"
if [[ -n ${FROZEN:-} ]]; then
    common+=(--freeze)
    rates="1e-4 3e-4"
elif [[ -n ${SCREEN:-} ]]; then
    tune_flags+=(--freeze)
    row_flags=(--warmup_epochs 0)
else
    common+=(--warmup_epochs 0)
fi
betas="0.6,0.8,1.0,1.2" neg_weights="10.0,20.0,40.0,80.0" taus="0.01,0.04,0.08,0.16"
shared=("${common[@]}")
for dataset in ${DATASETS:-cub200 cars196}; do
    common=("${shared[@]}") candidate=() tuned=() needed=()
    clear_rows
    ablation method controls
done
