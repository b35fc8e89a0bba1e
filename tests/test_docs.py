"""README, docs/ and CONTRIBUTING.md: examples run, commands exist and run, links lead somewhere."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fastact as fa
from fastact.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda p: p.relative_to(ROOT)
)
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]
WRITTEN = [n for n in NAMES if not n.startswith(os.path.join("docs", "gallery"))]

# What is run for a command of the documentation: the same, on little work. Installing is what
# continuous integration does.
RUN: dict[str, str] = {
    "fastact bench": "fastact bench --op relu --size 16 --rounds 1",
    "fastact bench --quick": "fastact bench --quick --op relu --rounds 1",
    "fastact bench --op": "fastact bench --op relu --size 16 --rounds 1",
    "fastact compile": "fastact compile --op relu --dtype float32 --jobs 1",
    "fastact gallery": "fastact gallery --check",
    "fastact lab": "fastact lab vanishing",
    "fastact lab --json": "fastact lab vanishing --json",
    "fastact plot": "fastact plot relu --out relu.png",
    "fastact plot gelu": "fastact plot relu tanh",
    "fastact plot OP --error": "fastact plot relu --error --out error.svg",
    "pytest bench/": "pytest bench --collect-only -q",
    "python bench/reach.py": "python bench/reach.py --help",
    "python examples/gradient_descent.py": "",  # test_gradient_descent.py
    "python examples/train_digits.py": "python examples/train_digits.py --epochs 2 --help",
}
# Run by ci/check.sh, as they are.
BY_CI = ("ci/check.sh", "python ci/", "mkdocs build", "pip install", "python -m pytest", "git ")
MAY_FAIL = ("fastact doctor",)  # with a status that says what it found


# Names that the README's examples take for given.
GIVEN = {
    "logits": np.zeros((4, 3)),
    "labels": np.array([0, 1, 2, 0]),
    "targets": np.full((4, 3), 0.5),
    "w": np.ones(3),
    "x": np.ones((64, 64)),
    "scores": np.zeros((64, 64)),
    "dx": np.ones(2),
    "dy": np.ones(2),
    "fa": fa,
    "np": np,
}


def fences(text, *kinds):
    """The contents of fenced blocks of these kinds."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for kind, body in blocks if kind in kinds]


def missing_library(error):
    """Whether an import failed for a library that fastact does without."""
    return isinstance(error, ImportError) and (error.name or "").split(".")[0] != "fastact"


@pytest.mark.parametrize("name", [n for n in WRITTEN if fences((ROOT / n).read_text(), "pycon")])
def test_examples_give_what_they_say(name):
    parser = doctest.DocTestParser()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    source = "\n".join(fences((ROOT / name).read_text(), "pycon"))
    report = []
    runner.run(parser.get_doctest(source, {}, name, name, 0), out=report.append)
    assert runner.failures == 0, "".join(report)
    assert runner.tries > 0


@pytest.mark.parametrize("name", [n for n in WRITTEN if fences((ROOT / n).read_text(), "python")])
def test_code_runs(name, tmp_path, monkeypatch):
    """Blocks of one page run one after another, in one scope, but for those of absent libraries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    scope = {}
    for k, block in enumerate(fences((ROOT / name).read_text(), "python")):
        if block.startswith("# needs:") or 'device="cuda"' in block:
            continue  # of tests/interop/test_guide.py; of a machine with a GPU
        scope |= GIVEN if name == "README.md" else {}
        try:
            exec(compile(block, f"{name}, block {k + 1}", "exec"), scope)
        except ImportError as error:
            if not missing_library(error):
                raise


def test_the_readme_s_figures_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    (block,) = (b for b in fences(text, "python") if "fa.plot(" in b)
    files = re.findall(r'file="([^"]+)"', block)
    exec(block, dict(GIVEN))
    assert files and {f.name for f in tmp_path.iterdir()} == set(files)


def commands(text):
    """Every command that a page names: lines of shell blocks, and code in the running text."""
    shell = [line for block in fences(text, "", "sh") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", prose)
    found = [re.split(r"\s{2,}| #", line.strip())[0] for line in shell + inline]
    return {c for c in found if re.match(r"(fastact [a-z]|python [\w./-]|pytest )", c)}


COMMANDS = sorted({c for n in NAMES for c in commands((ROOT / n).read_text())})


def words_of(command):
    """The longest beginning of a command that RUN knows; else the command as it is."""
    known = [k for k in RUN if command == k or command.startswith(f"{k} ")]
    return RUN[max(known, key=len)] if known else command


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path, monkeypatch):
    if command.startswith(BY_CI):
        pytest.skip("run by ci/check.sh")
    line = words_of(command)
    if not line:
        return
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "store"))
    needs = {"plot": "matplotlib", "gallery": "matplotlib", "lab": "sklearn"}
    program, *words = shlex.split(line)
    if program == "fastact":
        if words[0] in needs and not find_spec(needs[words[0]]):
            pytest.skip(f"needs {needs[words[0]]}")
        monkeypatch.chdir(ROOT if "gallery" in words else tmp_path)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0 or line in MAY_FAIL, result.output
        return
    if any(part.startswith("examples/") for part in words):
        pytest.importorskip("sklearn")
    head = [sys.executable, *(["-m", "pytest"] if program == "pytest" else [])]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    environment = inherited | {"PYTHONPATH": path}
    subprocess.run([*head, *words], cwd=ROOT, env=environment, check=True, capture_output=True)


def test_every_command_of_the_program_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        assert re.search(rf"^fastact {command.name}\b", text, re.MULTILINE), command.name


def slug(heading):
    """A heading's anchor, as GitHub and mkdocs make it."""
    plain = re.sub(r"[`*_]|\[|\]\([^)]*\)", "", heading).strip().lower()
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain))


def anchors(text):
    return {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{target} does not exist"
        assert ROOT in there.parents
        if anchor:
            assert anchor in anchors(there.read_text()), f"{target}: no such heading"


def test_the_checks_can_fail():
    assert commands("`fastact bench`, `x = 1` and\n```sh\npytest bench/   # all\n```\n") == {
        "fastact bench",
        "pytest bench/",
    }
    assert slug("How it is `made`: all") == "how-it-is-made-all"
    assert missing_library(ImportError("x", name="torch"))
    assert not missing_library(ImportError("x", name="fastact.gelu"))
