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

{imports}
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


def imports() -> str:
    """The functions that are written in a room of their own, with their types."""
    homes = dict.fromkeys(fastact._HERE, "fastact.runtime.state") | fastact._ELSEWHERE
    lines = (f"from {home} import {name} as {name}\n" for name, home in homes.items())
    return "".join(sorted(lines))


def text() -> str:
    """The whole stub file."""
    functions = "".join(stub(name) for name in sorted(registry.public_functions()))
    return HEAD.format(imports=imports()) + functions


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
