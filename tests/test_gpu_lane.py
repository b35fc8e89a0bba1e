"""The lane for a machine with a GPU goes on after what fails, dies or hangs, and says so."""

import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parent.parent / "ci"
CASES = """
    import os, sys, time
    start, step = map(int, sys.argv[1:])
    kinds = ["right", "wrong", "dies", "right", "gives up", "right", "hangs", "right", "right"]
    for index in range(start, len(kinds), step):
        kind = kinds[index]
        print("begin", index, kind, flush=True)
        if kind == "dies":
            print("a last word", flush=True)
            os.abort()
        while kind == "hangs":
            time.sleep(1)
        print("end", index, "0.1", "" if kind == "right" else f"it {kind}", flush=True)
        if kind == "gives up":
            sys.exit(3)
"""


@pytest.fixture
def lane(monkeypatch):
    spec = importlib.util.spec_from_file_location("lane", CI / "lane.py")
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lane", found)
    spec.loader.exec_module(found)
    monkeypatch.setattr(found, "LONGEST", 2.0)
    return found


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_every_case_is_told(lane, tmp_path, capsys, jobs):
    script, log = tmp_path / "cases.py", tmp_path / "log"
    script.write_text(textwrap.dedent(CASES))
    assert lane.main("60", jobs, str(log), sys.executable, str(script)) == 1
    said = capsys.readouterr().out
    assert "5 cases are right, 4 wrong" in said
    assert "WRONG wrong: it wrong" in said and "WRONG gives up: it gives up" in said
    assert "WRONG dies: ended with -6: a last word" in said and "WRONG hangs: ended with -9" in said
    assert log.read_text().count("\nright ") + log.read_text().startswith("right ") == 5


def test_time_is_kept(lane, tmp_path, capsys):
    script = tmp_path / "cases.py"
    script.write_text("import time\nprint('begin 0 slow', flush=True)\ntime.sleep(60)")
    assert lane.main("1", "2", str(tmp_path / "log"), sys.executable, str(script)) == 1
    assert "0 cases are right, 0 wrong; 2 of 2 processes ran out of time" in capsys.readouterr().out


def test_a_process_that_does_not_begin_is_wrong(lane, tmp_path, capsys):
    script = tmp_path / "cases.py"
    script.write_text("raise SystemExit('PyTorch finds no GPU')")
    assert lane.main("20", "1", str(tmp_path / "log"), sys.executable, str(script)) == 1
    assert "PyTorch finds no GPU" in capsys.readouterr().out
