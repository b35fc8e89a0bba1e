"""Run a piece of Python in a process of its own, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

Environment = Mapping[str, str | None]
NOTHING: Environment = {}
ROOT = Path(__file__).resolve().parent.parent


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment, with variables set, or removed by None."""
    merged: dict[str, str | None] = {**os.environ, **changes}
    path = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    merged["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    return {name: value for name, value in merged.items() if value is not None}


def start(code: str, env: Environment = NOTHING) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(code)],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(child: subprocess.Popen[str], seconds: float) -> str:
    """The child's standard output; a failure if it crashes, fails or hangs."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # its own children too
        out, err = child.communicate()
        raise AssertionError(f"no end after {seconds} s\n{out[-2000:]}\n{err[-4000:]}") from None
    assert child.returncode == 0, f"exit {child.returncode}\n{out[-2000:]}\n{err[-4000:]}"
    return out


def run(code: str, env: Environment = NOTHING, seconds: float = 120) -> str:
    return finish(start(code, env), seconds)
