#!/usr/bin/env bash
# Every GPU figure of the documentation with one command, on a machine with an NVIDIA GPU:
#
#   scripts/gpu_figures.sh [OUT]        (default: out/gpu_figures)
#
# Writes one JSON per part (figures, versions, hardware, command) and table.md. Parts are independent: what is missing
# on the machine is named in the table, and a part that was cut off can be run again alone (the exported graphs are kept).
# NETWORK=vl4ad-tiny FRAMES=5 try it quickly; DEVICE=cpu sees on any machine that it works.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-out/gpu_figures}
NETWORK=${NETWORK:-vl4ad-l}
FRAMES=${FRAMES:-50}
DEVICE=${DEVICE:-cuda}
SIZES=${SIZES:-"512x1024 1024x2048"}
BATCHES=${BATCHES:-"1 4"}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT"
if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$OUT/gpu.csv"; fi
: > "$OUT/table.md"
# Cheap and certain ones first: a machine that is lent for half an hour has the baseline in any case.
for forms in "torch-eager torch-cuda-graph" "onnxruntime" "tensorrt" "tensorrt_rtx" "torch-compile"; do
  name=${forms%% *}
  # shellcheck disable=SC2086 # the lists are words
  "$PYTHON" -m vl4ad_ros.cli.main bench gpu --network "$NETWORK" --device "$DEVICE" --frames "$FRAMES" \
    --size $SIZES --batch $BATCHES --forms $forms --work "$OUT/work" --out "$OUT/$name.json" \
    || echo "$name: this part failed, see above" >&2
done
# The parts' rows in one table, each against eager PyTorch at its size and batch.
"$PYTHON" - "$OUT"/*.json <<'EOF' | tee "$OUT/table.md"
import json, sys
from vl4ad_ros.cli.bench_gpu import gpu_table
rows = [row for path in sys.argv[1:] for row in json.load(open(path))["figures"]["rows"]]
print(gpu_table(sorted(rows, key=lambda row: (*row["size"], row["batch"]))))
EOF
