# shellcheck shell=bash
# What the table scripts have in common: rows, a queue of runs over the GPUs, and the table at the end. Sourced by them.
#
#   SEEDS="1 2 3 4 5"   seeds of each row              DRY_RUN=1   print the commands and run nothing
#   GPUS="0 1"          one run at a time on each;     EXTRA="..."  flags of main.py for every run, such as
#                       "cpu cpu": two on the CPU                   "--kernels 4"
#   DATA=FOLDER         where the images are           ONLY=REGEX  only the rows whose names it matches
#   OUT=FOLDER          where the runs go              PYTHON=python
#
# A run that has its result.json is finished and skipped; an unfinished one continues. So a script that was stopped is
# started again with the same words, and a second call only prints the table.
set -euo pipefail

say() { echo "${0##*/}: $*" >&2; }

begin() {                       # begin TABLE: reads the environment, goes to the root of the repository
    if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
        say "needs bash 4.4 or newer, this is $BASH_VERSION."
        exit 2
    fi
    local switch
    for switch in DRY_RUN FROZEN SCREEN; do
        if [[ ${!switch:-} == 0 ]]; then unset "$switch"; fi
    done
    from=$PWD
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    PYTHON=${PYTHON:-python}
    if [[ -n ${OUT:-} ]]; then OUT=$(absolute "$OUT"); else OUT=runs/$1; fi
    seeds=() gpus=() extra=()
    words seeds "${SEEDS:-1 2 3 4 5}"
    words gpus "${GPUS:-$(all_gpus)}"
    words extra "${EXTRA:-}"
    if ((!${#seeds[@]} || !${#gpus[@]})); then
        say "SEEDS and GPUS name at least one each, or are not set."
        exit 2
    fi
    if [[ " ${extra[*]} " =~ \ (--(savename|seed|save_path|source_path|dataset|resume))[=\ ] ]]; then
        say "EXTRA holds ${BASH_REMATCH[1]}, which the script sets itself; SEEDS, OUT and DATA change it."
        exit 2
    fi
    common=()
    dataset=""
    clear_rows
}

words() {                       # words ARRAY TEXT: the words of all its lines
    read -ra "$1" <<< "${2//$'\n'/ }"
}

clear_rows() { names=() folders=() commands=() comparison=(); }

absolute() { case $1 in /*) echo "$1" ;; *) echo "$from/$1" ;; esac; }

all_gpus() {                    # the GPUs that this shell may use, or the CPU
    if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
        echo "${CUDA_VISIBLE_DEVICES//,/ }"
    else
        nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | xargs | grep . || echo cpu
    fi
}

on_every_core() {               # before begin: runs go to the CPU's cores where GPUS names nothing else, one on each
    local cores
    cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2> /dev/null || echo 1)  # else nproc gives these
    GPUS=${GPUS:-$(for ((i = 0; i < cores; i++)); do echo -n "cpu "; done)}
    export OMP_NUM_THREADS=1
}

need_data() {                   # need_data WHAT: the folder that DATA names, or the end
    if [[ -z ${DATA:-} && -n ${DRY_RUN:-} ]]; then
        DATA=data
    elif [[ -z ${DATA:-} ]]; then
        say "set DATA to the folder that holds $1, such as DATA=data (docs/datasets.md says how to get it)."
        exit 2
    elif [[ -z ${DRY_RUN:-} && ! -d $(absolute "$DATA") ]]; then
        say "DATA=$DATA: there is no such folder; it should hold $1."
        exit 2
    else
        DATA=$(absolute "$DATA")
    fi
    common+=(--source_path "$DATA")
}

row() {                         # row NAME FLAGS...: one run for each seed
    [[ $1 =~ ${ONLY:-} ]] || return 0
    names+=("$dataset/$1")
    add_runs "$1" "${seeds[*]}" "${@:2}"
}

add_runs() {                    # add_runs NAME "SEEDS" FLAGS...
    local name=$1 seed
    for seed in $2; do
        folders+=("$OUT/$dataset/$name-s$seed")
        commands+=("$(quoted "$PYTHON" main.py --dataset "$dataset" "${common[@]}" --save_path "$OUT" \
            --savename "$name-s$seed" --seed "$seed" --resume auto "${@:3}" "${extra[@]}")")
    done
}

quoted() {
    local line
    printf -v line '%q ' "$@"
    echo "${line% }"
}

train() {                       # every run that is not finished, one at a time on each GPU
    ((${#commands[@]})) || { say "ONLY=${ONLY:-} matches no row."; exit 2; }
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%s\n' "${commands[@]}"
        return
    fi
    command -v "$PYTHON" > /dev/null ||
        { say "PYTHON=$PYTHON: there is no such program; name the Python that has the requirements."; exit 2; }
    printf '%s\n' "${commands[@]}" | "$PYTHON" -m scripts.check_runs
    mkdir -p "$OUT/logs"
    running=() started=0 begun=$SECONDS slot=0
    trap stop INT TERM
    local i
    for i in "${!commands[@]}"; do
        finished "$i" && continue
        free_slot
        start "$i"
    done
    wait
    trap - INT TERM
}

finished() { [[ -f ${folders[$1]}/result.json ]]; }

runs() {                        # runs NUMBER: with the noun
    if (($1 == 1)); then echo "1 run"; else echo "$1 runs"; fi
}

unfinished() {                  # how many
    local i count=0
    for i in "${!folders[@]}"; do finished "$i" || count=$((count + 1)); done
    echo "$count"
}

start() {                       # start INDEX, on the free slot
    local gpu=${gpus[$slot]} name=${folders[$1]#"$OUT/"} left
    left=$(unfinished)
    echo "$(date +%H:%M:%S) $name on $gpu, $(runs "$left") left$(estimate "$left")"
    [[ $gpu == cpu ]] && gpu=""
    mkdir -p "$OUT/logs/${name%/*}"
    (export CUDA_VISIBLE_DEVICES=$gpu && eval "exec ${commands[$1]}") >> "$OUT/logs/$name.log" 2>&1 < /dev/null &
    running[slot]=$!
    started=$((started + 1))
}

estimate() {                    # estimate LEFT: by what this call has finished so far
    local done=$((started - ${#gpus[@]} + 1))
    ((done > 0)) && echo ", some $(((SECONDS - begun) * $1 / done / 60)) min" || true
}

free_slot() {                   # waits for one, and puts its number into slot
    while true; do
        for slot in "${!gpus[@]}"; do
            if [[ -z ${running[$slot]:-} ]] || ! kill -0 "${running[$slot]}" 2> /dev/null; then return; fi
        done
        wait -n || true
    done
}

stop() {                        # the runs write their checkpoints and end
    say "stopping; the same command continues."
    kill -TERM "${running[@]}" 2> /dev/null || true
    wait
    exit 130
}

compare() {                     # compare NAME...: those of them that are rows become baselines of the next table
    local name
    comparison=()
    for name in "$@"; do
        if is_row "$name"; then comparison+=("$name"); fi
    done
    ((${#comparison[@]})) && comparison=(--baseline "${comparison[@]}") || true
}

is_row() {                      # is_row PATTERN: whether a row of the data set has such a name
    local name
    # shellcheck disable=SC2053   # a pattern on purpose
    for name in "${names[@]}"; do [[ $name == $dataset/$1 ]] && return 0; done
    return 1
}

table() {                       # table FLAGS...: the table of the data set's rows; failed runs are named and left out
    local own=() i
    for i in "${!folders[@]}"; do
        if [[ ${folders[$i]%/*} == "$OUT/$dataset" ]]; then own+=("${folders[$i]}"); fi
    done
    local line=("$PYTHON" -m evaluation.tables "${own[@]}" "$@" "${comparison[@]}")
    if [[ -n ${DRY_RUN:-} ]]; then
        quoted "${line[@]}"
        return
    fi
    echo
    "${line[@]}" --skip_incomplete
}

end() {                         # the code 1 where runs have failed
    all_finished || exit 1
}

all_finished() {                # names the runs that failed
    [[ -z ${DRY_RUN:-} ]] || return 0
    local i failed=()
    for i in "${!folders[@]}"; do finished "$i" || failed+=("$OUT/logs/${folders[$i]#"$OUT/"}.log"); done
    ((${#failed[@]})) || return 0
    say "$(runs "${#failed[@]}") failed; the last lines of the logs say why: ${failed[*]}"
    return 1
}
