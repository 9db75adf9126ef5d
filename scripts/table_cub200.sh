#!/usr/bin/env bash
# The table of CUB200-2011: base losses and the method on each of them, by both recipes and on three backbones.
# scripts/lib.sh explains SEEDS, GPUS, DATA, OUT, EXTRA, ONLY and DRY_RUN; ARCHS="resnet50_frozen_normalize" takes one
# backbone only. docs/reproducing.md says how to read it.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/benchmark_rows.sh"
begin table_cub200
benchmark cub200 "CUB200-2011" e_recall@1 e_recall@2 e_recall@4 e_recall@8 nmi mAP_r
