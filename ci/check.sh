#!/usr/bin/env bash
# The one command for everything: lint, types, generated files fresh, tests.
# It works in a clean clone on a new machine; the tests are the README's own command.
set -euo pipefail
cd "$(dirname "$0")/.."

# The README's second command, word for word: makes its own environment and runs the tests.
test_command=$(sed -n '/<!-- command:test -->/,/<!-- \/command -->/p' README.md | sed '/^<!--/d;/^```/d')
python=.venv-test/bin/python

make_environment=${test_command%% && "$python" -m pytest*}
echo "+ $make_environment"
eval "$make_environment"

# The libraries that fastact plugs into, so that no test of an adapter is skipped. PyTorch only
# where a CPU build is at hand: the default one brings gigabytes of CUDA along.
"$python" -m pip install -q -e ".[integrations]"
"$python" -m pip install -q "torch==2.13.0+cpu" ||
    echo "no CPU build of PyTorch here: tests against it are skipped"

echo "+ ruff, mypy"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy

echo "+ generated files"
"$python" ci/coefficients.py --check
"$python" ci/stubs.py --check
"$python" ci/statements.py
"$python" ci/report.py --check
"$python" -m fastact.cli gallery --check

echo "+ documentation"
FASTACT_SITE=$(mktemp -d)
export FASTACT_SITE # tests/test_site.py looks at it in a browser, where there is one
"$python" -m mkdocs build --quiet --strict --site-dir "$FASTACT_SITE"

echo "+ $test_command"
eval "$test_command"
