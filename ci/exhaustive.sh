#!/usr/bin/env bash
# Measures the accuracy of every op: all 2**32 float32 inputs, a million float64 ones. Takes a quarter of
# an hour on two idle cores; stop it at any time, the next call goes on from there. Arguments: names of ops.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" ci/exhaustive.py "$@"
