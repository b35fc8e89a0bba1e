"""Write `fastact/__init__.pyi`, the types of every public function, from the records.

python ci/stubs.py            write it
python ci/stubs.py --check    only say whether it is fresh; 1 if not
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import fastact
from fastact import registry

TARGET = Path(fastact.__file__).with_suffix(".pyi")

HEAD = '''"""Types of fastact's public functions; made by ci/stubs.py, do not edit."""

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from fastact.registry import get as get
from fastact.registry import names as names
from fastact.runtime.state import get_num_threads as get_num_threads
from fastact.runtime.state import get_target as get_target
from fastact.runtime.state import set_num_threads as set_num_threads
from fastact.runtime.state import set_target as set_target
from fastact.runtime.state import use_target as use_target

__version__: str
'''

TYPES = {
    "out": "Any",
    "where": "ArrayLike | None",
    "dtype": "DTypeLike | None",
    "casting": "str",
    "axis": "Any",
}


def stub(name: str) -> str:
    """The typed signature of one public function."""
    words: list[str] = []
    star = False
    for p in inspect.signature(getattr(fastact, name)).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        default = "" if p.default is p.empty else " = ..."
        words.append(f"{p.name}: {TYPES.get(p.name, 'ArrayLike')}{default}")
    return f"def {name}({', '.join(words)}) -> Any: ...\n"


def text() -> str:
    """The whole stub file."""
    functions = "".join(stub(name) for name in sorted(registry.public_functions()))
    return HEAD + functions


def main() -> int:
    fresh = TARGET.exists() and TARGET.read_text() == text()
    if "--check" in sys.argv:
        if not fresh:
            print(f"{TARGET.name} is not fresh: run python ci/stubs.py")
        return 0 if fresh else 1
    TARGET.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
