# shellcheck shell=bash
# shellcheck disable=SC2154   # variables of lib.sh and of the scripts
# Tuning for the table scripts: grids whose best candidate on the validation classes is what rows train with. Sourced
# after lib.sh, whose variables and functions it uses. TUNE_SEEDS=6 has the seeds of the candidates, TUNE_FLAGS="..."
# what else they train with, such as "--n_epochs 4".
#
# All of it is read from result files, so that a second call chooses the same and trains nothing.

declare -A candidate=() tuned=() needed=()
words tune_seeds "${TUNE_SEEDS:-6}"
words tune_flags "${TUNE_FLAGS:-}"

tuned_row() {                   # tuned_row NAME FLAGS...: a row whose flags `filled` completes
    local flags
    [[ $1 =~ ${ONLY:-} ]] || return 0
    filled "${@:2}"
    row "$1" "${flags[@]}"
}

filled() {                      # filled FLAGS...: puts them into flags, where @GRID stands for what was chosen from a
    local word found            # grid, and @GRID.lr for its rate alone
    flags=()
    for word in "$@"; do
        [[ $word == @* ]] || { flags+=("$word"); continue; }
        word=${word#@} needed[${word%.lr}]=1
        read -ra found <<< "${tuned[${word%.lr}]:-}"
        if [[ $word == *.lr ]]; then found=("${found[@]:0:2}"); fi
        flags+=("${found[@]}")
    done
}

grid() {                        # grid NAME FLAG "VALUE,..." FLAGS...: a run for each of `rates`, value and tuning seed,
    local name=$1 flag=$2 value lr values row flags                                 # where a row needs the choice
    [[ -n ${needed[$name]:-} ]] || return 0
    filled "${@:4}"
    names+=("$dataset/tune-$name-*")
    IFS=, read -ra values <<< "$3"
    for lr in $rates; do
        for value in "${values[@]}"; do
            row="tune-$name-lr$lr-${value// /-}"
            candidate[$row]="--lr $lr $flag $value"
            tuned[$name]=${tuned[$name]:-${candidate[$row]}}
            # shellcheck disable=SC2086   # several words on purpose
            add_runs "$row" "${tune_seeds[*]}" "${tune_flags[@]}" "${flags[@]}" ${candidate[$row]}
        done
    done
}

tune() {                        # tune GRIDS ROWS METRIC: runs the grids that the rows need and settles what they chose;
    local pattern picks=() found                                                    # a dry run takes their first
    "$2"
    clear_rows
    "$1"
    ((${#commands[@]})) || return 0
    train
    all_finished || say "these candidates are not chosen from."
    for pattern in "${names[@]#"$dataset/"}"; do
        picks+=(--pick "$pattern")
        if [[ -z ${DRY_RUN:-} ]]; then
            found=$(picked "$pattern" "$3")
            tuned[${pattern:5:-2}]=${candidate[$found]}
        fi
    done
    table --metric "val_$3" --best_by "$3" "${picks[@]}"
    clear_rows
}

parse_rows() {                  # parse_rows ROWS GRIDS...: finds flags that a row refuses before the tuning, not after it;
    local list                                                          # what is not chosen yet has its first value
    [[ -z ${DRY_RUN:-} ]] || return 0
    (
        for list in "$@" clear_rows "$1"; do "$list"; done
        ((${#commands[@]} == 0)) || printf '%s\n' "${commands[@]}" | "$PYTHON" -m scripts.check_runs --parse
    )
}

picked() {                      # picked PATTERN METRIC: the name of the row that is best on the validation classes
    local notes=$OUT/logs/picks.txt own=() folder
    for folder in "${folders[@]}"; do
        # shellcheck disable=SC2053   # a pattern on purpose
        if [[ ${folder##*/} == $1 ]]; then own+=("$folder"); fi
    done
    "$PYTHON" -m evaluation.tables "${own[@]}" --pick "$1" --best_by "$2" --metric "val_$2" --format csv \
        --skip_incomplete 2> "$notes" | tail -1 | cut -d, -f1 || { cat "$notes" >&2; exit 1; }
}
