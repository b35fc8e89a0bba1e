"""fastact inside Cython: build embed_recurrence.pyx and call an activation by its address.

Needs cython, setuptools and a C compiler: `python examples/embed_cython.py`
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastact as fa

SOURCE = Path(__file__).with_name("embed_recurrence.pyx")


def built(source, folder):
    """The module of a Cython source, built in a folder."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extension = Extension(source.stem, [str(source)])
    modules = cythonize([extension], build_dir=folder, quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = folder
    command.ensure_finalized()
    command.run()
    spec = importlib.util.spec_from_file_location(
        source.stem, command.get_ext_fullpath(source.stem)
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    x = np.random.default_rng(0).normal(size=100_000)
    swish = fa.pointer("swish", "float64")
    with tempfile.TemporaryDirectory() as folder:
        h = built(SOURCE, folder).recurrence(swish.address, x, 0.9, 1.5)
    state = 0.0
    for value in x[-1000:]:  # what came before is forgotten
        state = fa.swish(0.9 * state + value, 1.5)
    print(f"{swish.signature}: h = {h:.15f}, in Python {state:.15f}")
    return 0 if abs(h - state) < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
