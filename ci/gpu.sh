#!/usr/bin/env bash
# The lane for a machine with an NVIDIA GPU and its driver: every op on the card against the CPU's
# results and the oracle, fastact.torch by PyTorch's own checks, then speed against PyTorch and
# against a copy on that card.
#   ci/gpu.sh            all of it
#   ci/gpu.sh check      correctness alone
#   ci/gpu.sh bench      speed alone
# It goes on after failures and ends within SECONDS_ALL (530) seconds; what it found is summed up at
# the end and lies in the folder $OUT (gpu-results): summary.txt, check.log, bench.log, bench.json.
#   PYTHON    the interpreter (else .venv-gpu, python3, or a new .venv-gpu made from the network)
#   WHEELS    a folder of wheels that the interpreter lacks, used without a network
set -uo pipefail
cd "$(dirname "$0")/.." || exit
part=${1:-all}
out=${OUT:-gpu-results}
mkdir -p "$out" && out=$(cd "$out" && pwd)
end=$((SECONDS + ${SECONDS_ALL:-530}))
modules=(numpy numba llvmlite numba_cuda cuda.bindings torch ml_dtypes mpmath typer rich)
failed=0

note() { echo "$*" | tee -a "$out/summary.txt"; }
lacking() { # the modules that an interpreter lacks
    "$1" - "${modules[@]}" <<'PYTHON' 2>/dev/null || echo "an interpreter that runs ($1)"
import importlib.util, sys

def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False

print(*(name for name in sys.argv[1:] if not has(name)))
PYTHON
}
step() { # NAME SECONDS COMMAND...: within the time that is left
    local name=$1 limit=$2 begun=$SECONDS code=0
    shift 2
    [ "$limit" -le $((end - SECONDS)) ] || limit=$((end - SECONDS))
    if [ "$limit" -lt 5 ]; then
        note "$name: no time was left"
        failed=1
        return 1
    fi
    echo "+ $name"
    timeout -k 5 "$limit" "$@" 2>&1 | tee "$out/$name.log"
    code=${PIPESTATUS[0]}
    if [ "$code" = 0 ]; then
        note "$name: done in $((SECONDS - begun)) s"
    else
        failed=1
        note "$name: FAILED with $code after $((SECONDS - begun)) s: $(tail -n 1 "$out/$name.log")"
    fi
    return "$code"
}

: >"$out/summary.txt"
export PYTHONPATH="$PWD:tests:tests/interop:bench${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
export FASTACT_TABLES=0 # the CPU then computes what a GPU computes: no tables in registers

python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x .venv-gpu/bin/python ] || python=.venv-gpu/bin/python
if [ -d "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" \
        "$WHEELS"/*.whl && export PYTHONPATH="$site:$PYTHONPATH"
fi
missing=$(lacking "$python")
if [ -n "$missing" ] && [ -z "${PYTHON:-}" ]; then
    echo "$python lacks: $missing; trying to make .venv-gpu from the network"
    if python3 -m venv .venv-gpu &&
        timeout 240 .venv-gpu/bin/python -m pip install -q --retries 1 -e ".[cuda,test]" torch; then
        python=.venv-gpu/bin/python
        missing=$(lacking "$python")
    else
        rm -rf .venv-gpu
    fi
fi
if [ -n "$missing" ]; then
    note "MISSING from $python: $missing"
    note "install them there, or put their wheels into a folder and name it in WHEELS"
    exit 1
fi

nvidia-smi 2>&1 | head -n 15
"$python" -c 'import importlib.metadata as m
for n in ("numpy", "numba", "llvmlite", "numba-cuda", "cuda-bindings", "nvidia-nvvm", "torch"):
    try: print(n, m.version(n))
    except m.PackageNotFoundError: print(n, "-")' 2>&1 | tee "$out/versions.txt"

jobs=$(($(nproc) - 2))
[ "$jobs" -le 12 ] || jobs=12
[ "$jobs" -ge 1 ] || jobs=1
step info 60 "$python" -m fastact.cli info
step first 120 "$python" ci/gpu.py first
if [ "$part" != bench ]; then
    limit=$((end - SECONDS))
    [ "$part" != all ] || limit=$((limit * 11 / 20))
    step check "$limit" env OMP_NUM_THREADS=1 FASTACT_NUM_THREADS=2 \
        "$python" ci/lane.py $((limit - 8)) "$jobs" "$out/cases.log" "$python" ci/gpu.py cases
fi
if [ "$part" != check ]; then
    limit=$((end - SECONDS))
    step bench "$limit" "$python" ci/gpu.py bench "$out/bench.json" $((limit - 25))
fi

echo
echo "summary ($out)"
cat "$out/summary.txt"
for log in check bench; do
    [ ! -f "$out/$log.log" ] || grep -E "^[0-9.]+ (cases|of|x|timings)|of [0-9]+; least" "$out/$log.log"
done
[ ! -f "$out/check.log" ] || grep "^WRONG" "$out/check.log" | head -n 40
exit "$failed"
