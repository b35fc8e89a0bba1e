"""fastact inside C: compile embed_layer.c and hand it an inner loop through cffi.

Needs cffi and a C compiler: `python examples/embed_c.py`
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import fastact as fa

SOURCE = Path(__file__).with_name("embed_layer.c")
DECLARATION = """
void layer(void *f, void *data, double parameter, const double *w, const double *b,
           const double *x, double *y, intptr_t rows, intptr_t columns);
"""


def library(folder):
    """The compiled source as a cffi library."""
    import cffi

    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    target = Path(folder) / "layer.so"
    command = [*compiler.split(), "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(target)]
    subprocess.run(command, check=True)
    ffi = cffi.FFI()
    ffi.cdef(DECLARATION)
    return ffi, ffi.dlopen(str(target))


def main():
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(500, 300)), rng.normal(size=500), rng.normal(size=300)
    y = np.empty(500)
    elu = fa.pointer("elu", "float64")
    with tempfile.TemporaryDirectory() as folder:
        ffi, c = library(folder)

        def address(array):
            return ffi.cast("double *", array.ctypes.data)

        loop, data = (ffi.cast("void *", a) for a in (elu.loop_address, elu.loop_data))
        c.layer(loop, data, 0.5, *map(address, (w, b, x, y)), *w.shape)
    error = np.abs(y - fa.elu(w @ x + b, 0.5)).max()
    print(f"{elu.loop_signature}: largest difference from NumPy {error:.1e}")
    return 0 if error < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
