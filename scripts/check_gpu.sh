#!/usr/bin/env bash
# Everything that only a GPU can show, in ten minutes: the tests that need one, and the measurements for
# docs/benchmarks.md, in one Markdown file with device, date and versions.
#
#   bash scripts/check_gpu.sh        OUT=FILE      the table; default runs/check_gpu.md
#                                    PYTHON=python the environment; default .venv, which is made where it is not there
#                                    ONLY=REGEX    only the parts whose names it matches
#   DEVICE=cpu QUICK=1 ...           the same in tiny, without a GPU: whether every part runs
#
# Each part has a time limit. One that fails or is late is named in the table and the others go on; the exit code is
# then 1. It is 2 where there is no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DEVICE=${DEVICE:-cuda}
OUT=${OUT:-runs/check_gpu.md}
if [[ -z ${PYTHON:-} ]]; then
    make .venv/.installed-dev >&2 || exit 1
    PYTHON=.venv/bin/python
fi

environment() {                 # what the numbers depend on, in one line; an error without a GPU
    "$PYTHON" - "$DEVICE" << 'END'
import datetime, platform, subprocess, sys, torch, torchvision
on_gpu = sys.argv[1] == "cuda"
if on_gpu and not torch.cuda.is_available():
    sys.exit(2)
git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
print(
    torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
    datetime.date.today(),
    f"commit {git.stdout.strip() or 'unknown'}",
    f"Python {platform.python_version()}",
    f"torch {torch.__version__}",
    f"torchvision {torchvision.__version__}",
    f"CUDA {torch.version.cuda}",
    sep=", ",
)
END
}

about=$(environment)
status=$?
if ((status == 2)); then
    echo "check_gpu.sh: there is no GPU that this PyTorch can use; DEVICE=cpu QUICK=1 tries the script without one." >&2
    exit 2
elif ((status)); then
    exit 1
fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
rows=() names=()
failed=0

part() {                        # part NAME SECONDS COMMAND...: run it, keep what it prints, note how it ended
    [[ $1 =~ ${ONLY:-} ]] || return 0
    local name=$1 limit=${LIMIT:-$2} start=$SECONDS code result=ran
    echo "check_gpu.sh: $name, $limit s at most" >&2
    timeout --kill-after=5 "$limit" "${@:3}" > "$logs/$name" 2> "$logs/$name.errors"
    code=$?
    if ((code == 124 || code == 137)); then
        result="**not done in $limit s**"
    elif ((code)); then
        result="**failed**"
        tail -n 5 "$logs/$name" "$logs/$name.errors" >&2
    fi
    ((code == 0)) || failed=1
    names+=("$name")
    rows+=("| $name | $result | $((SECONDS - start)) |")
}

report() {
    printf '%s\n\n| part | result | seconds |\n|---|---|---:|\n' "$about"
    printf '%s\n' "${rows[@]}"
    for name in "${names[@]}"; do
        printf '\n### %s\n\n' "$name"
        cat "$logs/$name"
    done
}

full="+ memory: the full method"
if [[ -n ${QUICK:-} ]]; then
    tests=(tests/training/test_ema.py) few=(--bs 16 --rounds 1)
    network=(--networks convnet) counted=(--network convnet --bs 16 --steps 1)
    size=(500 --rounds 1) images=(--images 32 --rounds 1 --workers 0 --size 64x48 --detail 0.5)
    runs=(--rounds 1 --processes 2 --bs 16 --n_epochs 2 --eval_every 2 --steps_per_epoch 2 --log_every 1)
    batches=(16)
else
    tests=(tests) few=(--rounds 15) network=(--networks resnet50 --amp bf16 --compile) counted=(--network resnet50)
    size=(sop) images=(--images 96 --rounds 2 --workers 0 4 --size 500x375 --detail 0.5)
    runs=(--rounds 1 --processes 1 2) batches=(112 180)
fi
first_gpu=${CUDA_VISIBLE_DEVICES:-0}
first_gpu=${first_gpu%%,*}
measured=("product" "ours R@1,10 mAP_r r_precision mrr")
part "CUDA tests" 120 "$PYTHON" -m pytest -q -n 0 -p no:cacheprovider -m gpu "${tests[@]}"
for bs in "${batches[@]}"; do
    part "step, batch $bs (goal 1.15)" 130 "$PYTHON" benchmarks/step.py --device "$DEVICE" "${few[@]}" --bs "$bs" \
        --only "$full" "${network[@]}"
done
part "synchronisations" 40 "$PYTHON" benchmarks/synchronisations.py --device "$DEVICE" "${counted[@]}"
part "evaluation" 50 "$PYTHON" benchmarks/evaluation.py --device "$DEVICE" --size "${size[@]}" --only "${measured[@]}"
part "loader" 50 "$PYTHON" benchmarks/loader.py "${images[@]}"
part "two processes on one device" 60 env CUDA_VISIBLE_DEVICES="$first_gpu" "$PYTHON" \
    benchmarks/scaling.py --device "$DEVICE" "${runs[@]}"
mkdir -p "$(dirname "$OUT")"
report > "$OUT"
cat "$OUT"
echo "check_gpu.sh: the table is in $OUT." >&2
exit $failed
