# shellcheck shell=bash
# The rows of the tables of the method: on each backbone each base loss alone, and the method on it by both recipes.
# ARCHS chooses backbones.

benchmark_rows() {
    local arch loss backbone
    for arch in ${ARCHS:-resnet50_frozen_normalize bninception_frozen_normalize vit_small_normalize}; do
        backbone=${arch%%_*}
        for loss in margin smoothap proxyanchor softmax; do
            row "$backbone-$loss" --arch "$arch" --loss "$loss" --relation none --memory none --pair_weighting uniform
            row "$backbone-$loss-default" --arch "$arch" --loss "$loss"
            row "$backbone-$loss-paper" --arch "$arch" --loss "$loss" --recipe paper
        done
    done
}

benchmark_tables() {            # benchmark_tables METRIC...: the last epoch, and the best on test as is published
    local base=() backbone loss
    for backbone in resnet50 bninception vit; do
        for loss in margin smoothap proxyanchor softmax; do base+=("$backbone-$loss"); done
    done
    compare "${base[@]}"
    table --metric "$@"
    compare
    table --metric "$@" --at best --expected scripts/expected/benchmarks.csv
}

benchmark() {                   # benchmark DATASET "ITS NAME" METRIC...: all of it; `common` may hold flags for every row
    # shellcheck disable=SC2034   # the functions of lib.sh read it
    dataset=$1
    need_data "$2"
    shift 2
    common+=(--evaluation_metrics "$@")
    benchmark_rows
    train
    benchmark_tables "$@"
    end
}
