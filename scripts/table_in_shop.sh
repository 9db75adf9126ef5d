#!/usr/bin/env bash
# The table of In-Shop Clothes: base losses and the method on each of them, by both recipes and on three backbones.
# scripts/lib.sh explains SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN; ARCHS="resnet50_frozen_normalize" takes one
# backbone only. docs/reproducing.md says how to read it.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/benchmark_rows.sh"
begin table_in_shop
benchmark in_shop "In-Shop Clothes" e_recall@1 e_recall@10 e_recall@20 e_recall@30 mAP_r
