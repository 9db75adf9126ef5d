#!/usr/bin/env bash
# The ablation with its controls: parts on and off, fixed, random and shuffled weights, tuned rivals.
# DATASET=cub200 and ARCH=resnet50_frozen_normalize by default; scripts/lib.sh and scripts/tuning.sh
# explain SEEDS, TUNE_SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN, scripts/ablation_rows.sh ROWS.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/tuning.sh"
source "$(dirname "$0")/ablation_rows.sh"
begin table_ablation
dataset=${DATASET:-cub200}
need_data "$dataset"
common+=(--arch "${ARCH:-resnet50_frozen_normalize}")
rates="5e-5 1e-4 2e-4" betas="0.6,0.8,1.0,1.2" neg_weights="10.0,20.0,40.0,80.0" taus="0.01,0.04,0.08,0.16"
ablation method memory weights parts published gpw proxies rivals
