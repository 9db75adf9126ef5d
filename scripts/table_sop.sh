#!/usr/bin/env bash
# The table of Stanford Online Products: base losses and the method on each, by both recipes and on three backbones.
# scripts/lib.sh explains SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN; ARCHS="resnet50_frozen_normalize" takes one
# backbone only. docs/reproducing.md says how to read it.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/benchmark_rows.sh"
begin table_sop
common+=(--data_sampler hierarchical)
benchmark online_products "Stanford Online Products" e_recall@1 e_recall@10 e_recall@100 e_recall@1000 mAP_r
