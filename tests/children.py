"""Run a piece of Python in a process of its own, with a time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment, with variables set, or removed by None."""
    merged: dict[str, str | None] = {**os.environ, **changes}
    path = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    merged["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    return {name: value for name, value in merged.items() if value is not None}


def start(code: str, env: Mapping[str, str | None] = {}) -> subprocess.Popen[str]:  # noqa: B006
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(code)],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str], seconds: float) -> str:
    """The child's standard output; a failure if it crashes, fails or hangs."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(f"no end after {seconds} s\n{out[-2000:]}\n{err[-4000:]}") from None
    assert child.returncode == 0, f"exit {child.returncode}\n{out[-2000:]}\n{err[-4000:]}"
    return out


def run(code: str, env: Mapping[str, str | None] = {}, seconds: float = 120) -> str:  # noqa: B006
    return finish(start(code, env), seconds)
