#!/usr/bin/env bash
# The lane for a machine with an NVIDIA GPU and its driver: every op on the card against the CPU's
# results and the oracle, fastact.torch by PyTorch's own checks, then speed against PyTorch and
# against a copy on that card.
#   ci/gpu.sh            all of it; results go to gpu-results.json
#   ci/gpu.sh check      correctness alone
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv-gpu/bin/python
if [ ! -x "$python" ]; then
    python3 -m venv .venv-gpu
    "$python" -m pip install -q -e ".[cuda,test]" torch
fi
export PYTHONPATH="tests:tests/interop:bench${PYTHONPATH:+:$PYTHONPATH}"
export FASTACT_TABLES=0 # the CPU then computes what a GPU computes: no tables in registers

echo "+ what fastact finds"
"$python" -m fastact.cli info

echo "+ every op against the CPU and the oracle"
"$python" ci/gpu.py check

if [ "${1:-all}" = all ]; then
    echo "+ speed against PyTorch and a copy"
    "$python" ci/gpu.py bench gpu-results.json
fi
