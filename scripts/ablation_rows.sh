# shellcheck shell=bash
# shellcheck disable=SC2154   # variables of lib.sh and of the scripts
# The rows of the ablation: the full method, the same with one part changed or removed, and the controls that a claim
# needs. All rows train with --use_tv_split for the same number of steps. Every rival is tuned on the validation
# classes, from as many candidates as the method: a learning rate of `rates`, and one of four values of the parameter
# that says how sharply it weighs its pairs. ROWS="GROUP ..." chooses other groups of rows than the script's, in the
# order in which they are named.

alone=(--relation none --memory none)
plain=("${alone[@]}" --pair_weighting uniform)
method=(--loss smoothap)        # the base loss of the method
pure=(--loss gpw)               # the plain pair loss, which has no weights of its own
# Under the default entropy bonus of 0.1 policies over anchors stay uniform.
anchor=(--policy_granularity anchor --policy_entropy_bonus .001 --policy_lr .01)
rivals="margin multisimilarity smoothap"
metrics="e_recall@1 mAP_r" costs=""
row_flags=()                    # of rows alone, not of candidates
alphas="8,16,32,64" temperatures="0.05,0.1,0.2,0.4"

grids_of_losses() {             # rates, betas, neg_weights and taus are the script's
    grid margin --loss_margin_beta "$betas" "${plain[@]}" --loss margin
    grid multisimilarity --loss_multisimilarity_neg_weight "$neg_weights" "${plain[@]}" --loss multisimilarity
    grid proxyanchor --loss_proxyanchor_alpha "$alphas" "${plain[@]}" --loss proxyanchor
    grid supcon --loss_supcon_temperature "$temperatures" "${plain[@]}" --loss supcon
    grid smoothap --loss_smoothap_tau "$taus" "${plain[@]}" "${method[@]}"
    grid full --loss_smoothap_tau "$taus" "${method[@]}"
    grid gpw-constant --policy_constant "0 20,2 20,5 20,2 40" "${alone[@]}" --pair_weighting constant "${pure[@]}"
    grid gpw-learned --policy_step "0.05,0.1,0.2,0.4" "${alone[@]}" "${pure[@]}"
}

grids_upon_them() {             # grids that use those choices
    grid constant --policy_constant "5 0,10 0,20 0,10 5" "${alone[@]}" --pair_weighting constant "${method[@]}" \
        @smoothap
}

rows_of_method() {
    local loss
    for loss in $rivals; do tuned_row "$loss" "${plain[@]}" --loss "$loss" "@$loss"; done
    tuned_row constant "${alone[@]}" --pair_weighting constant "${method[@]}" @smoothap @constant
    tuned_row learned "${alone[@]}" "${method[@]}" @full
    tuned_row full "${method[@]}" @full
}

rows_of_memory() {
    tuned_row memory-none --memory none "${method[@]}" @full
    tuned_row memory-constant --memory constant "${method[@]}" @full
    tuned_row memory-mlp --memory mlp "${method[@]}" @full
    tuned_row memory-attention --relation attention "${method[@]}" @full
}

rows_of_controls() {            # of memory, weights and published, what a first table needs; not together with them
    tuned_row full-uniform --pair_weighting uniform "${method[@]}" @full
    tuned_row memory-none --memory none "${method[@]}" @full
    tuned_row memory-constant --memory constant "${method[@]}" @full
    tuned_row paper --recipe paper @smoothap.lr
}

rows_of_context() {             # contexts that differ from image to image, beside a constant offset and an MLP
    tuned_row context-norm --context_norm batch "${method[@]}" @full
    tuned_row context-norm-constant --context_norm batch --memory constant "${method[@]}" @full
    tuned_row context-norm-mlp --context_norm batch --memory mlp "${method[@]}" @full
    tuned_row context-loss --context_loss_weight 1 "${method[@]}" @full
    tuned_row context-positives --memory_target positives "${method[@]}" @full
    tuned_row context-positives-mlp --memory_target positives --memory mlp "${method[@]}" @full
    tuned_row context-norm-scaled --context_norm batch --memory_condition scaled "${method[@]}" @full
    tuned_row context-attention --relation attention "${method[@]}" @full
}

rows_of_published() {
    tuned_row memory-glow --memory glow "${method[@]}" @full
    tuned_row paper --recipe paper @smoothap.lr
    tuned_row paper-margin --recipe paper --loss margin @margin
}

rows_of_weights() {             # controls, in the full method and without relation and memory
    tuned_row full-uniform --pair_weighting uniform "${method[@]}" @full
    tuned_row full-random --pair_weighting random "${method[@]}" @full
    weights_on "" "${method[@]}" @full
    tuned_row factor-random "${alone[@]}" --policy_granularity anchor --policy_action weight --pair_weighting random \
        "${method[@]}" @full
}

weights_on() {                  # weights_on PREFIX FLAGS...: pair weights on a loss; uniform ones are the loss's own row
    tuned_row "$1random" "${alone[@]}" --pair_weighting random "${@:2}"
    tuned_row "$1learned-per-anchor" "${alone[@]}" "${anchor[@]}" "${@:2}"
    tuned_row "$1learned-per-anchor-batch-ap" "${alone[@]}" "${anchor[@]}" --policy_mix 1 "${@:2}"
    tuned_row "$1learned-per-anchor-shuffled" "${alone[@]}" "${anchor[@]}" --pair_weighting shuffled "${@:2}"
    tuned_row "$1factor-lookahead" "${alone[@]}" "${anchor[@]}" --policy_action weight "${@:2}"
    tuned_row "$1factor-batch-ap" "${alone[@]}" "${anchor[@]}" --policy_action weight --policy_reward batch_ap "${@:2}"
}

rows_of_parts() {               # the full method with one part changed or removed
    tuned_row policy-without-state --policy_input statistics "${method[@]}" @full
    tuned_row policy-without-statistics --policy_input state "${method[@]}" @full
    tuned_row decode-off --memory_decode off "${method[@]}" @full
    tuned_row decode-mean --memory_decode mean "${method[@]}" @full
    tuned_row decode-sample --memory_decode sample "${method[@]}" @full
    tuned_row dual-embedding --memory_dual embedding "${method[@]}" @full
    tuned_row dual-none --memory_dual none "${method[@]}" @full
}

rows_of_gpw() {                 # the weights alone: on the plain pair loss
    tuned_row gpw-constant "${alone[@]}" --pair_weighting constant "${pure[@]}" @gpw-constant
    tuned_row gpw-learned "${alone[@]}" "${pure[@]}" @gpw-learned
    tuned_row gpw-full "${pure[@]}" @gpw-learned
    tuned_row gpw-uniform "${plain[@]}" "${pure[@]}" @gpw-learned.lr
    weights_on gpw- "${pure[@]}" @gpw-learned.lr
}

rows_of_proxies() {             # a proxy of every class beside the pairs; everything else is the same
    local loss proxies=(--proxies_weight 1)
    for loss in $rivals; do
        tuned_row "proxies-$loss" "${plain[@]}" --loss "$loss" "${proxies[@]}" "@$loss"
    done
    tuned_row proxies-full "${method[@]}" "${proxies[@]}" @full
    tuned_row proxies-gpw-constant "${alone[@]}" --pair_weighting constant "${pure[@]}" "${proxies[@]}" @gpw-constant
    tuned_row proxies-gpw-learned "${alone[@]}" "${pure[@]}" "${proxies[@]}" @gpw-learned
    tuned_row proxies-gpw-full "${pure[@]}" "${proxies[@]}" @gpw-learned
}

rows_of_rivals() {              # the method on the other losses
    local loss
    for loss in margin multisimilarity; do
        tuned_row "$loss-learned" "${alone[@]}" --loss "$loss" "@$loss"
        tuned_row "$loss-constant" "${alone[@]}" --loss "$loss" --pair_weighting constant @gpw-constant "@$loss"
        weights_on "$loss-" --loss "$loss" "@$loss"
        tuned_row "$loss-full" --loss "$loss" "@$loss"
    done
}

ablation() {                    # ablation GROUP...: tunes, trains, and prints what was tuned and tables of the rows
    words groups "${ROWS:-$*}"
    local group
    for group in "${groups[@]}"; do
        if [[ $(type -t "rows_of_$group") != function ]]; then
            say "ROWS: there is no group $group; choose from $(compgen -A function rows_of_ | sed s/rows_of_// | xargs)."
            exit 2
        fi
    done
    common+=(--use_tv_split --proxies_weight 0)
    parse_rows ablation_rows grids_of_losses grids_upon_them
    tune grids_of_losses ablation_rows mAP_r
    tune grids_upon_them ablation_rows mAP_r
    common+=("${row_flags[@]}")
    ablation_rows
    train
    compare full
    # shellcheck disable=SC2086   # several words on purpose
    table --metric $metrics
    compare
    # shellcheck disable=SC2086   # several words on purpose
    if [[ $costs ]]; then table --metric $costs; fi
    local others=(constant smoothap) baselines
    if is_row "margin-*" || is_row "multisimilarity-*"; then others+=("margin multisimilarity"); fi
    for baselines in "${others[@]}"; do
        # shellcheck disable=SC2086   # several words on purpose
        compare $baselines
        # shellcheck disable=SC2086   # several words on purpose
        if ((${#comparison[@]})); then table --metric $metrics; fi
    done
    end
}

ablation_rows() {
    local group
    for group in "${groups[@]}"; do "rows_of_$group"; done
}
