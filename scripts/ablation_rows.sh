# shellcheck shell=bash
# The rows of the ablation: the full method, each of its parts changed or taken away, and the controls that a claim for
# it needs. All rows train with --use_tv_split for equally many steps: grids are decided on the validation classes.

ablation_rows() {
    local alone=(--relation none --memory none)
    local plain=("${alone[@]}" --pair_weighting uniform)
    local anchor=(--policy_granularity anchor) positive negative loss
    common+=(--use_tv_split)

    # the method
    row full
    row paper --recipe paper

    # pair weights on the plain pair loss, without relation and memory
    row uniform "${plain[@]}"
    row random "${alone[@]}" --pair_weighting random
    for positive in 0 2 5 10; do
        for negative in 10 20 40; do
            row "constant-$positive-$negative" "${alone[@]}" --pair_weighting constant \
                --policy_constant "$positive" "$negative"
        done
    done
    row learned "${alone[@]}"
    row learned-per-anchor "${alone[@]}" "${anchor[@]}"
    row learned-per-anchor-batch-ap "${alone[@]}" "${anchor[@]}" --policy_mix 1
    row learned-per-anchor-shuffled "${alone[@]}" "${anchor[@]}" --pair_weighting shuffled
    row factor-lookahead "${alone[@]}" "${anchor[@]}" --policy_action weight
    row factor-batch-ap "${alone[@]}" "${anchor[@]}" --policy_action weight --policy_reward batch_ap
    row factor-random "${alone[@]}" "${anchor[@]}" --policy_action weight --pair_weighting random

    # other losses, each with as many values of its own parameter, and pair weights on them
    row margin "${plain[@]}" --loss margin
    row margin-beta-0.6 "${plain[@]}" --loss margin --loss_margin_beta 0.6
    row margin-beta-0.9 "${plain[@]}" --loss margin --loss_margin_beta 0.9
    row multisimilarity "${plain[@]}" --loss multisimilarity
    row multisimilarity-neg-20 "${plain[@]}" --loss multisimilarity --loss_multisimilarity_neg_weight 20
    row multisimilarity-neg-80 "${plain[@]}" --loss multisimilarity --loss_multisimilarity_neg_weight 80
    row smoothap "${plain[@]}" --loss smoothap
    row smoothap-tau-0.005 "${plain[@]}" --loss smoothap --loss_smoothap_tau 0.005
    row smoothap-tau-0.02 "${plain[@]}" --loss smoothap --loss_smoothap_tau 0.02
    for loss in margin multisimilarity smoothap; do
        row "random-on-$loss" "${alone[@]}" --loss "$loss" --pair_weighting random
        row "constant-on-$loss" "${alone[@]}" --loss "$loss" --pair_weighting constant --policy_constant 2 20
        row "learned-on-$loss" "${alone[@]}" --loss "$loss"
        row "factor-on-$loss" "${alone[@]}" --loss "$loss" "${anchor[@]}" --policy_action weight
    done

    # relation and memory, with learned weights
    row memory-none --memory none
    row memory-constant --memory constant
    row memory-mlp --memory mlp
    row memory-glow --memory glow
    row memory-attention --relation attention
    row decode-off --memory_decode off
    row decode-mean --memory_decode mean
    row decode-sample --memory_decode sample
    row dual-embedding --memory_dual embedding
    row dual-none --memory_dual none
    row policy-without-state --policy_input statistics
    row policy-without-statistics --policy_input state
}

ablation_tables() {             # every row against the full method; of each grid the best on the validation classes
    local pattern picks=()
    for pattern in 'constant-[0-9]*' 'margin*' 'multisimilarity*' 'smoothap*'; do
        if is_row "$pattern"; then picks+=(--pick "$pattern"); fi
    done
    compare full
    table --metric e_recall@1 mAP_r val_e_recall@1 "${picks[@]}"
}
