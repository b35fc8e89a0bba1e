"""Scalars that look tables up in registers, beside what the same op computes elsewhere."""

import re
from pathlib import Path

import children
import numpy as np
import ops
import pytest
from tabulated import BESIDE_A_GPU, SCALARS

import fastact as fa
from fastact.activations.directions import DIRECTIONS

pytest.importorskip("numba")

from numba import njit

from fastact.compile.abi import FIXED
from fastact.compile.build import kernel_module
from fastact.compile.loading import target_machine
from fastact.compile.tabulated import NAMES, tables_in_registers

TESTS = Path(__file__).parent
tabulated = pytest.mark.parametrize(("op", "direction"), SCALARS)
with_tables = pytest.mark.skipif(
    not tables_in_registers(), reason="this processor looks no tables up in registers"
)


@with_tables
@tabulated
def test_tables_are_looked_up_in_registers(op, direction):
    """Nothing is gathered from memory, and no function is left beside the kernel."""
    module = kernel_module(fa.get(op).record, DIRECTIONS[direction], "float32", FIXED, "under_test")
    text = target_machine().emit_assembly(module)
    assert len(re.findall(r"vperm[it]2ps.*%zmm", text)) >= 8
    assert "gather" not in text
    labels = re.findall(rf"^{NAMES}\w+:", text, re.MULTILINE)
    assert all("constants" in label for label in labels)


@with_tables
@tabulated
def test_one_rare_element_changes_no_other(op, direction):
    function = ops.function(op, direction)
    x = np.linspace(-3, 4, 64, dtype=np.float32)
    usual = function(x)
    rare = np.concatenate([np.linspace(-25, -6.5, 32), np.linspace(9, 25, 32)])
    for k, far in enumerate(rare.astype(np.float32)):
        mixed = x.copy()
        mixed[k] = far
        expected = usual.copy()
        expected[k] = function(far)
        ops.assert_same_bits(function(mixed), expected)


@with_tables
@tabulated
def test_loops_of_any_vector_width_look_up(op, direction):
    """Beside float64 a vector holds eight elements, in a short loop four: none goes alone."""
    function = ops.function(op, direction)
    x = np.linspace(-15, 5, 1003, dtype=np.float32)

    @njit
    def beside_doubles(x, w, y):
        for i in range(x.size):
            y[i] = w[i] * function(x[i])

    @njit
    def alone(x):
        return function(x)

    y = np.empty(x.size)
    beside_doubles(x, np.ones(x.size), y)
    ops.assert_same_bits(y.astype(np.float32), function(x))
    assert re.search(rf"{NAMES}\w+_8\b", beside_doubles.inspect_asm(beside_doubles.signatures[0]))
    for one in x[::100]:
        assert alone(one) == function(one)


@with_tables
@pytest.mark.parametrize(
    "settings",
    [
        {"NUMBA_CPU_NAME": "generic"},
        {"NUMBA_ENABLE_AVX": "0"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    ],
    ids=str,
)
def test_no_tables_in_code_for_lesser_processors(settings):
    """LLVM would end the process."""
    code = """
        import numba, numpy as np, fastact as fa
        @numba.njit
        def loop(x):
            y = np.empty_like(x)
            for i in range(x.size):
                y[i] = fa.gelu(x[i])
            return y
        x = np.linspace(-9, 9, 100, dtype=np.float32)
        assert np.array_equal(loop(x), fa.gelu(x))
        print("done")
    """
    assert children.run(code, settings).strip() == "done"


def run_without_tables(*arguments):
    """Tests of these ops in a process that computes what processors without such registers do."""
    code = f"""
        import pytest
        from fastact.compile.tabulated import tables_in_registers
        from tabulated import looks_up

        class Chosen:
            def pytest_collection_modifyitems(self, items):
                items[:] = filter(looks_up, items)

        assert not tables_in_registers()
        options = ["-q", "-p", "no:cacheprovider", *{arguments!r}]
        raise SystemExit(pytest.main(options, plugins=[Chosen()]))
    """
    report = children.run(code, {"FASTACT_TABLES": "0"}, seconds=300)
    assert re.search(r"[1-9]\d* passed", report)
    return report


def test_the_readme_names_them():
    """All of them, and no other."""
    text = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"\* Where the processor looks.*?float32", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == {op for op, _ in SCALARS}


@with_tables
def test_processors_without_are_as_exact():
    """Other bits, within what the records state."""
    run_without_tables(f"{TESTS}/test_accuracy.py", "-k", "float32")


@with_tables
@pytest.mark.parametrize("file", BESIDE_A_GPU)
def test_a_gpu_gives_the_bits_of_processors_without(file):
    pytest.importorskip("numba_cuda")
    run_without_tables(f"{TESTS}/{file}")
