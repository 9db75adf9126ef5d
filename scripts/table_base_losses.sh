#!/usr/bin/env bash
# The losses of "Revisiting Training Strategies and Generalization Performance in Deep Metric Learning" (ICML 2020) at
# 128 dimensions with its settings (--recipe revisiting: average pooling, no upper cutoff of the distance miners), and its
# R@1 beside the measured one. DATASETS="cub200 cars196 online_products" takes
# some of them; DATA is the folder that holds them. scripts/lib.sh explains SEEDS, GPUS, OUT, EXTRA, ONLY and DRY_RUN.
source "$(dirname "$0")/lib.sh"
begin table_base_losses
need_data "the data sets"
common+=(--recipe revisiting)

loss_rows() {                   # loss_rows EPOCHS, and the share of negatives that rho_distance replaces by positives:
    local epochs=(--n_epochs "$1") contrastive=$2 margin06=$3 margin12=$4 triplet=$5 snr=$6   # R-... rows of each loss
    local unit=(--arch resnet50_frozen_normalize "${epochs[@]}") any=(--arch resnet50_frozen "${epochs[@]}")
    local rho=(--batch_mining rho_distance --miner_rho_distance_cp)
    local softmax=()
    if [[ $dataset == online_products ]]; then softmax=(--loss_softmax_lr 2e-3); fi
    row angular "${any[@]}" --loss angular
    row arcface "${unit[@]}" --loss arcface
    row contrastive-D "${unit[@]}" --loss contrastive
    row lifted "${any[@]}" --loss lifted
    row histogram "${unit[@]}" --loss histogram
    row margin-D-0.6 "${unit[@]}" --loss margin --loss_margin_beta 0.6
    row margin-D-1.2 "${unit[@]}" --loss margin --loss_margin_beta 1.2
    row multisimilarity "${unit[@]}" --loss multisimilarity
    row npair "${any[@]}" --loss npair
    row proxynca "${unit[@]}" --loss proxynca
    row quadruplet-D "${unit[@]}" --loss quadruplet
    row snr-D "${unit[@]}" --loss snr
    row softmax "${unit[@]}" --loss softmax "${softmax[@]}"
    row softtriple "${unit[@]}" --loss softtriplet
    row triplet-R "${unit[@]}" --loss triplet --batch_mining random
    row triplet-S "${unit[@]}" --loss triplet --batch_mining semihard
    row triplet-H "${unit[@]}" --loss triplet --batch_mining softhard
    row triplet-D "${unit[@]}" --loss triplet
    row R-contrastive-D "${unit[@]}" --loss contrastive "${rho[@]}" "$contrastive"
    row R-margin-D-0.6 "${unit[@]}" --loss margin --loss_margin_beta 0.6 "${rho[@]}" "$margin06"
    row R-margin-D-1.2 "${unit[@]}" --loss margin --loss_margin_beta 1.2 "${rho[@]}" "$margin12"
    row R-triplet-D "${unit[@]}" --loss triplet "${rho[@]}" "$triplet"
    row R-snr-D "${unit[@]}" --loss snr "${rho[@]}" "$snr"
}

for dataset in ${DATASETS:-cub200 cars196 online_products}; do
    case $dataset in
        cub200) loss_rows 150 0.4 0.4 0.35 0.4 0.3 ;;
        cars196) loss_rows 150 0.35 0.35 0.35 0.35 0.35 ;;
        online_products) loss_rows 100 0.15 0.15 0.15 0.15 0.15 ;;
        *) say "DATASETS=$dataset: choose from cub200, cars196 and online_products."; exit 2 ;;
    esac
done
train
for dataset in ${DATASETS:-cub200 cars196 online_products}; do
    table --metric e_recall@1 nmi f1 mAP_c mAP_1000 --at best --expected scripts/expected/base_losses.csv
    table --metric e_recall@1 nmi f1 mAP_c mAP_1000
done
end
