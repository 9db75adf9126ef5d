# shellcheck shell=bash
# shellcheck disable=SC2154   # variables of lib.sh and of the scripts
# The rows of the ablation: the full method, each of its parts changed or taken away, and the controls that a claim for
# it needs. All rows train with --use_tv_split for equally many steps. What a rival has to choose is chosen on the
# validation classes, from as many candidates as the method has: a learning rate of three, and one of four values of the
# parameter that says how sharply it weighs its pairs. ROWS="GROUP ..." takes other groups of rows than the script's, in
# the order in which they are named.

alone=(--relation none --memory none)
plain=("${alone[@]}" --pair_weighting uniform)
# Under the default entropy bonus of .1 policies over anchors and pairs stay where they start.
anchor=(--policy_granularity anchor --policy_entropy_bonus .001 --policy_lr .01)
pair=(--policy_granularity pair --policy_lr .01)
rivals="margin multisimilarity smoothap"

ablation_grids() {              # rates, betas, neg_weights and taus are the script's
    grids_with "" 0 "0 20,2 20,5 20,2 40"
    grid learned --policy_step "0.05,0.1,0.2,0.4" "${alone[@]}"
    grids_with proxies- 1 "0 20,2 20,5 10,10 10"
}

grids_with() {                  # grids_with PREFIX WEIGHT "SHARPNESS,...": the grids of rows with proxies of this weight
    local proxies=(--proxies_weight "$2")
    grid "$1margin" --loss_margin_beta "$betas" "${plain[@]}" --loss margin "${proxies[@]}"
    grid "$1multisimilarity" --loss_multisimilarity_neg_weight "$neg_weights" "${plain[@]}" --loss multisimilarity \
        "${proxies[@]}"
    grid "$1smoothap" --loss_smoothap_tau "$taus" "${plain[@]}" --loss smoothap "${proxies[@]}"
    grid "$1constant" --policy_constant "$3" "${alone[@]}" --pair_weighting constant "${proxies[@]}"
    grid "$1full" --policy_step "0.05,0.1,0.2,0.4" "${proxies[@]}"
}

rows_of_method() {
    local loss
    for loss in $rivals; do tuned_row "$loss" "${plain[@]}" --loss "$loss" "@$loss"; done
    tuned_row constant "${alone[@]}" --pair_weighting constant @constant
    tuned_row learned "${alone[@]}" @learned
    tuned_row full @full
}

rows_of_memory() {
    tuned_row memory-none --memory none @full
    tuned_row memory-constant --memory constant @full
    tuned_row memory-mlp --memory mlp @full
    tuned_row memory-attention --relation attention @full
}

rows_of_published() {
    tuned_row memory-glow --memory glow @full
    tuned_row paper --recipe paper @margin
}

rows_of_weights() {             # controls on the plain pair loss, without relation and memory
    tuned_row uniform "${plain[@]}" @learned.lr
    tuned_row random "${alone[@]}" --pair_weighting random @learned.lr
    tuned_row learned-per-anchor "${alone[@]}" "${anchor[@]}" @learned
    tuned_row learned-per-anchor-batch-ap "${alone[@]}" "${anchor[@]}" --policy_mix 1 @learned
    tuned_row learned-per-anchor-shuffled "${alone[@]}" "${anchor[@]}" --pair_weighting shuffled @learned
    tuned_row factor-lookahead "${alone[@]}" "${anchor[@]}" --policy_action weight @learned
    tuned_row factor-batch-ap "${alone[@]}" "${anchor[@]}" --policy_action weight --policy_reward batch_ap @learned
    tuned_row factor-random "${alone[@]}" "${anchor[@]}" --policy_action weight --pair_weighting random @learned.lr
}

rows_of_parts() {               # of the full method, each changed or taken away
    tuned_row policy-without-state --policy_input statistics @full
    tuned_row policy-without-statistics --policy_input state @full
    tuned_row decode-off --memory_decode off @full
    tuned_row decode-mean --memory_decode mean @full
    tuned_row decode-sample --memory_decode sample @full
    tuned_row dual-embedding --memory_dual embedding @full
    tuned_row dual-none --memory_dual none @full
}

rows_of_forms() {               # what a grid of fixed sharpness cannot find
    tuned_row learned-continuous "${alone[@]}" --policy_action continuous @learned
    tuned_row learned-per-pair "${alone[@]}" "${pair[@]}" --policy_entropy_bonus 0 @learned
    tuned_row learned-per-pair-entropy "${alone[@]}" "${pair[@]}" --policy_entropy_bonus .001 @learned
    tuned_row learned-per-pair-batch-ap "${alone[@]}" "${pair[@]}" --policy_entropy_bonus 0 --policy_mix 1 @learned
    tuned_row learned-validation "${alone[@]}" --policy_reward validation @learned.lr
    tuned_row learned-validation-continuous "${alone[@]}" --policy_reward validation --policy_action continuous \
        @learned.lr
}

rows_of_proxies() {             # a proxy of every class beside the pairs of the batch
    local loss
    for loss in $rivals; do
        tuned_row "proxies-$loss" "${plain[@]}" --loss "$loss" --proxies_weight 1 "@proxies-$loss"
    done
    tuned_row proxies-constant "${alone[@]}" --pair_weighting constant --proxies_weight 1 @proxies-constant
    tuned_row proxies-learned "${alone[@]}" --proxies_weight 1 @proxies-full
    tuned_row proxies-full --proxies_weight 1 @proxies-full
    tuned_row proxies-memory-none --memory none --proxies_weight 1 @proxies-full
    tuned_row proxies-memory-constant --memory constant --proxies_weight 1 @proxies-full
}

rows_of_rivals() {              # pair weights on other losses
    local loss
    for loss in $rivals; do
        tuned_row "$loss-learned" "${alone[@]}" --loss "$loss" "@$loss"
        tuned_row "$loss-constant" "${alone[@]}" --loss "$loss" --pair_weighting constant @constant "@$loss"
        tuned_row "$loss-random" "${alone[@]}" --loss "$loss" --pair_weighting random "@$loss"
        tuned_row "$loss-factor" "${alone[@]}" --loss "$loss" "${anchor[@]}" --policy_action weight "@$loss"
    done
}

rows_of_rivals_in_full() {      # all of the weights on them, and both recipes
    local loss
    for loss in $rivals; do
        tuned_row "$loss-learned-per-anchor" "${alone[@]}" --loss "$loss" "${anchor[@]}" "@$loss"
        tuned_row "$loss-learned-per-anchor-batch-ap" "${alone[@]}" --loss "$loss" "${anchor[@]}" \
            --policy_mix 1 "@$loss"
        tuned_row "$loss-learned-per-anchor-shuffled" "${alone[@]}" --loss "$loss" "${anchor[@]}" \
            --pair_weighting shuffled "@$loss"
        tuned_row "$loss-factor-batch-ap" "${alone[@]}" --loss "$loss" "${anchor[@]}" --policy_action weight \
            --policy_reward batch_ap "@$loss"
        tuned_row "$loss-full" --loss "$loss" "@$loss"
        [[ $loss == margin ]] || tuned_row "$loss-paper" --recipe paper --loss "$loss" "@$loss"
    done
    tuned_row gpw-paper --recipe paper --loss gpw @learned.lr
}

ablation() {                    # ablation GROUP...: tunes, trains, and prints what was tuned and three tables of the rows
    read -ra groups <<< "${ROWS:-$*}"
    local group
    for group in "${groups[@]}"; do
        if [[ $(type -t "rows_of_$group") != function ]]; then
            say "ROWS: there is no group $group; there are $(compgen -A function rows_of_ | sed s/rows_of_// | xargs)."
            exit 2
        fi
    done
    common+=(--use_tv_split --proxies_weight 0)
    tune ablation_grids ablation_rows mAP_r
    ablation_rows
    train
    compare full
    table --metric e_recall@1 mAP_r
    local baselines
    for baselines in constant "$rivals"; do
        # shellcheck disable=SC2086   # several words on purpose
        compare $baselines
        if ((${#comparison[@]})); then table --metric e_recall@1 mAP_r; fi
    done
    end
}

ablation_rows() {
    local group
    for group in "${groups[@]}"; do "rows_of_$group"; done
}
