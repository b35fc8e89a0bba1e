"""Calls from PyTorch without Python in between: `native.cpp`, compiled on the user's machine.

A call through `torch.autograd.Function` costs 2 us in Python whatever is done there; a call of
PyTorch's own functions costs 1 us. `build` compiles one C++ file against the PyTorch that is
installed, once, into the object store; from then on importing `fastact.torch` loads it. It takes
the loops that fastact has anyway, and the calls it does not understand go the way they went.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastact.activations.directions import DIRECTIONS, Direction
from fastact.compile import abi
from fastact.rowwise.losses import CLASS
from fastact.runtime import state, store
from fastact.runtime.functions import DOMAINS

if TYPE_CHECKING:
    from fastact.interop.catalogue import Elementwise, Fused, RowWise

VARIABLE = "FASTACT_TORCH_NATIVE"
MODULE = "fastact_torch_native"  # as PyInit_ in the source
SOURCE = Path(__file__).with_name("native.cpp")
COMPILERS = ("c++", "g++", "clang++")
LIBRARIES = ("c10", "torch_cpu", "torch_python")

COMPILED = "compiled"  # the status that all this is for

ELEMENTS, HALVES, ROWS, LOSS = range(4)  # the kinds of a call, as in the source
NOT_SUMMED = -1
# the row ops of losses of class ids, without and with the gradient
LOSSES = {"softmax_cross_entropy": CLASS}

Make = Callable[[], Any]
Install = Callable[[Any], None]

_offers: list[tuple[Make, Install]] = []
_module: Any = None
_pool = 0
_problem = ""  # why what is stored could not be loaded


class BuildError(RuntimeError):
    """The compiled calls could not be built; the message says what is missing."""


def torch_folder() -> Path | None:
    """Where PyTorch is installed; found without importing it."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def object_name() -> str:
    """The name in the store: another source, PyTorch or Python has another one."""
    whole = hashlib.sha256(SOURCE.read_bytes())
    folder = torch_folder()
    if folder is not None:
        whole.update((folder / "version.py").read_bytes())  # with the commit it was built from
    whole.update(f"{sysconfig.get_config_var('SOABI')} {platform.machine()}".encode())
    return f"torch_native_{whole.hexdigest()[:16]}"


def is_wanted() -> bool:
    return os.environ.get(VARIABLE, "1") != "0"


def status() -> str:
    """What `fastact info` says; PyTorch is not imported for it."""
    if torch_folder() is None:
        return "PyTorch is not installed"
    if not is_wanted():
        return f"in Python ({VARIABLE}=0)"
    if _problem:
        return f"in Python: {_problem}"
    if _module is not None or store.get(object_name()) is not None:
        return COMPILED
    return "in Python; fastact.torch.build() compiles them"


def compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, or the first that is found."""
    chosen = os.environ.get("CXX")
    if chosen:
        command = shlex.split(chosen)
        if shutil.which(command[0]):
            return command
        raise BuildError(f"there is no C++ compiler {chosen!r}, which CXX names")
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise BuildError(
        f"there is no C++ compiler: none of {', '.join(COMPILERS)} was found. Install one "
        "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select "
        "--install), or name it in CXX"
    )


def command(target: Path) -> list[str]:
    """What compiles the source into an extension module.

    Raises
    ------
    BuildError
        If the compiler or a header is missing.
    """
    import torch

    if not state.HAS_POOL:
        raise BuildError(f"compiled calls need POSIX threads, which {sys.platform} lacks")
    python, folder = Path(sysconfig.get_paths()["include"]), Path(torch.__file__).parent
    if not (python / "Python.h").exists():
        raise BuildError(
            f"Python's headers are missing: there is no {python / 'Python.h'} (Debian, Ubuntu: "
            "apt install python3-dev; Fedora: dnf install python3-devel)"
        )
    include = folder / "include"
    if not (include / "torch").exists():
        raise BuildError(f"PyTorch's headers are missing: there is no {include / 'torch'}")
    folders = (include, include / "torch" / "csrc" / "api" / "include", python)
    if sys.platform == "darwin":
        linked = ["-undefined", "dynamic_lookup"]
    else:
        linked = [f"-L{folder / 'lib'}", *(f"-l{name}" for name in LIBRARIES)]
    return [
        *compiler(),
        *("-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        *(part for path in folders for part in ("-isystem", str(path))),
        *(str(SOURCE), "-o", str(target)),
        *linked,
    ]


def compiled() -> bytes:
    """The extension module, compiled now."""
    with tempfile.TemporaryDirectory(prefix="fastact-") as folder:
        target = Path(folder, MODULE + ".so")
        ran = subprocess.run(command(target), capture_output=True, text=True)
        if ran.returncode:
            said = "\n".join(line for line in ran.stderr.splitlines() if "error" in line)
            raise BuildError(f"the C++ compiler failed:\n{said or ran.stderr}"[:4000])
        return target.read_bytes()


def loaded(code: bytes) -> Any:
    """The extension module of these bytes.

    The file that the system loads need not outlive it. In a folder of its own: nobody can
    have put another file there.
    """
    with tempfile.TemporaryDirectory(prefix="fastact-") as folder:
        path = os.path.join(folder, MODULE + ".so")
        Path(path).write_bytes(code)
        loader = importlib.machinery.ExtensionFileLoader(MODULE, path)
        spec = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module


def use(module: Any) -> None:
    """From now on calls go through the module; in Python, if it is None."""
    global _module, _pool
    if module is not None:
        _pool = module.connect(
            state.ADDRESS,
            abi.STATE_TARGET,
            abi.STATE_THREADS,
            abi.TARGET_SERIAL,
            abi.TARGET_CUDA,
            abi.LOOP_AXES,
        )
    _module = module
    for make, install in _offers:
        install(None if module is None else make())


def offer(make: Make, install: Install) -> None:
    """Hand over a function's place for its compiled call; None is put there to take it away."""
    _offers.append((make, install))
    if _module is not None:
        install(make())


def load_stored() -> None:
    """Load what has been built before. Whatever is wrong with it, calls work in Python."""
    global _problem
    if not is_wanted():
        return
    code = store.get(object_name())
    if code is None:
        return
    try:
        use(loaded(code))
    except Exception as error:
        _problem = f"what was built cannot be loaded: {error}"


def build() -> None:
    """Compile the calls of elementwise ops, of gates and biases, of softmax and its like, in C++.

    It takes half a minute, once: the result is kept in the object store and loaded whenever
    `fastact.torch` is imported, until fastact, PyTorch or Python changes. It is used from now on
    in this process too. Where it is there already, nothing happens. Results are the same bits;
    work is shared among PyTorch's threads, at most as many as `fastact.set_num_threads` allows.
    FASTACT_TORCH_NATIVE=0 in the environment turns it off; `fastact info` tells whether it is on.

    Raises
    ------
    RuntimeError
        If it cannot be compiled; the message says what is missing.
    """
    global _problem
    if _module is not None:
        return
    if not is_wanted():
        raise BuildError(f"compiled calls are turned off by {VARIABLE}=0")
    code = store.get(object_name())
    if code is None or _problem:
        code = compiled()
    use(loaded(code))
    _problem = ""
    store.put(object_name(), code)
    if store.get(object_name()) is None:
        warnings.warn(
            f"the compiled calls cannot be kept in {store.root()}: they serve this process only",
            stacklevel=2,
        )


def addresses(entry: str, loops: list[Any]) -> tuple[int, int, int]:
    """The loop that runs them, and its data forward and backward."""
    from fastact.runtime.loops import driver_entry

    for loop in loops:
        loop.resolve(0)
        loop.block[abi.LOOP_POOL] = _pool
    forward, backward = (loop.address for loop in loops)
    return driver_entry(entry), forward, backward


def loop_call(record: Any, ways: tuple[Direction, Direction], kind: int, *behind: Any) -> Any:
    """The compiled call of loops over elements: `call(*tensors, *parameters)`.

    `behind` are the backward passes in Python (see `native.cpp`).
    """
    from fastact.runtime.loops import Loop

    def prepare(dtype: str, defaults: bool) -> tuple[int, int, int]:
        return addresses("ufunc_loop", [Loop(record, d, dtype, defaults) for d in ways])

    domains = tuple(list(DOMAINS).index(p.domain) for p in record.parameters)
    return _module.call(
        record.name,
        record.defaults,
        None if record.constraint else domains,
        kind,
        1 if kind == HALVES else len(ways[0].arrays),
        False,
        False,
        ways[1].results[1].output if ways[1].results else NOT_SUMMED,
        prepare,
        *behind,
    )


def elementwise_call(op: Elementwise, backward: Callable[..., Any]) -> Any:
    """The compiled call of an elementwise op: `call(x, *parameters)`.

    `backward(dy, x, *parameters)` is what it falls back on behind autograd.
    """
    ways = (DIRECTIONS["forward"], DIRECTIONS["backward"])
    return loop_call(op.record, ways, ELEMENTS, backward, None)


def paired_call(op: Fused, again: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """The compiled call of an op of two tensors, `call(a, b, *parameters)`, or halves of one.

    `again` is the backward pass of any tensors, `backward` that of tensors of several shapes.
    """
    kind = ELEMENTS if len(op.arrays) > 1 else HALVES
    return loop_call(op.record, op.record.form.directions, kind, again, backward)


def row_call(op: RowWise, backward: Callable[..., Any]) -> Any:
    """The compiled call of a row op: `call(x, dim)`."""
    from fastact import registry
    from fastact.runtime.loops import RowLoop
    from fastact.runtime.row_functions import empty_value

    family = {row.name: row for row in registry.ROW_OPS}
    suffix = "_backward_from_output" if op.keeps_output else "_backward"

    def prepare(dtype: str, defaults: bool) -> tuple[int, int, int]:
        ways = (family[op.name], family[op.name + suffix])
        loops = [RowLoop(row, dtype, empty_value(row, row.policy or "nan")) for row in ways]
        return addresses("row_loop", loops)

    return _module.call(
        op.name, (), (), ROWS, 1, op.keeps_output, op.reduces, NOT_SUMMED, prepare, backward, None
    )


def loss_call(name: str, backward: Callable[..., Any]) -> Any:
    """The compiled call of a loss of class ids: all its arguments, by position.

    It takes ids in their usual form: no weights, none to ignore, no smoothing.
    """
    from fastact.runtime.loops import RowLoop

    def prepare(dtype: str, defaults: bool) -> tuple[int, int, int]:
        loops = [RowLoop(LOSSES[name][gradient], dtype, math.nan) for gradient in (False, True)]
        return addresses("row_loop", loops)

    return _module.call(name, (), (), LOSS, 1, False, False, NOT_SUMMED, prepare, backward, None)
