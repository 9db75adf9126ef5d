#!/usr/bin/env bash
# All steps on the built-in data set: the full method, its base loss alone (smoothap), and multi-similarity, at
# equal steps; then one table of held-out classes and the pictures of the full method. The baselines train beside
# the full method, one core each. A second call for the same folder continues it, or prints its table again.
set -euo pipefail
out=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/.."
out=${out:-runs/demo-$(date +%Y%m%d-%H%M%S)}
plain=(--relation none --memory none --pair_weighting uniform)
export OMP_NUM_THREADS=1
mkdir -p "$out"
python -c 'import datasets; datasets.select("glyphs", ".cache")'    # drawn once, before two processes want it
set -m    # a process group of its own, so that both its processes can be stopped
(python main.py --save_path "$out" --resume auto --savename multisimilarity --map_images 0 --loss multisimilarity "${plain[@]}" &&
 python main.py --save_path "$out" --resume auto --savename smoothap --map_images 0 --loss smoothap "${plain[@]}") \
    > "$out/baselines.log" 2>&1 &
baselines=$!
set +m
trap 'kill -- -$baselines 2>/dev/null && wait $baselines || true' EXIT
python main.py --save_path "$out" --resume auto --savename full-method
echo "Waiting for the two baselines, which train beside it (log: $out/baselines.log) ..."
wait $baselines || { tail -n 3 "$out/baselines.log"; exit 1; }
echo
echo "Held-out classes, percent, last epoch, equal steps:"
python -m evaluation.tables "$out"/glyphs/{multisimilarity,smoothap,full-method} \
    --metrics e_recall@1 e_recall@2 e_recall@4 e_recall@8 nmi mAP_r
echo
echo "Pictures: $out/glyphs/full-method/{gallery,embedding,policy,memory,progress}.png"
