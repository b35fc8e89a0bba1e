"""What the records state about accuracy is what the exhaustive lane measured (ci/exhaustive.sh)."""

import json
import sys
from pathlib import Path

import ops
import pytest

import fastact as fa

pytest.importorskip("numba")
pytest.importorskip("rich")
CI = Path(__file__).resolve().parents[1] / "ci"
TABLE = CI / "accuracy.json"
if not TABLE.exists():
    pytest.skip("only in the repository", allow_module_level=True)
sys.path.append(str(CI))

import exhaustive  # noqa: E402

MEASURED = json.loads(TABLE.read_text())
every_entry = pytest.mark.parametrize(
    ("op", "dtype", "direction"),
    [(op, d.name, way) for op in MEASURED for d in ops.NATIVE for way in exhaustive.DIRECTIONS],
)


@every_entry
def test_the_statement_is_the_measurement(op, dtype, direction):
    """Not better than what was measured, and no looser than twice that."""
    stated = getattr(fa.get(op).accuracy[dtype], direction)
    measured = MEASURED[op][dtype][direction]["ulp"]
    assert measured <= stated <= 2 * measured


@pytest.mark.parametrize("op", MEASURED)
def test_the_measurement_is_of_this_implementation(op):
    assert MEASURED[op]["fingerprint"] == exhaustive.fingerprint(op), (
        f"{op} computes other values than those measured: run ci/exhaustive.sh {op}"
    )


@pytest.mark.parametrize("op", MEASURED)
def test_every_input_was_counted(op):
    for direction in exhaustive.DIRECTIONS:
        single = MEASURED[op]["float32"][direction]
        assert sum(single["histogram"]) == 1 << 32
        assert single["proxy_ulp"] <= 2
        assert sum(MEASURED[op]["float64"][direction]["histogram"]) >= exhaustive.POINTS
