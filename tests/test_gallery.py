"""The gallery is fresh, says what is true, and its pictures show what they should."""

import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

import fastact as fa
from fastact.cli import app
from fastact.gallery import facts, pages, writing
from fastact.plotting import curves

FOLDER = Path(__file__).parent.parent / "docs" / "gallery"
SVG = "{http://www.w3.org/2000/svg}"
ELEMENTWISE = [name for name in fa.names() if curves.is_elementwise(name)]
written = pytest.mark.skipif(not FOLDER.exists(), reason="the checkout has no docs")


@written
def test_every_op_has_a_page_with_its_picture():
    for name in fa.names():
        text = (FOLDER / f"{name}.md").read_text()
        assert f"# {name}\n" in text and fa.get(name).record.formula in text
        for file in pages.pictures_of(name):
            assert f"](pictures/{file}.svg)" in text


@written
@pytest.mark.parametrize("file", sorted(writing.pictures()))
def test_pictures_hold_lines_axes_and_text(file):
    root = ElementTree.parse(FOLDER / "pictures" / f"{file}.svg").getroot()
    width, height = map(float, root.get("viewBox").split()[2:])
    assert width > 300 and height > 200
    groups = [g.get("id", "") for g in root.iter(f"{SVG}g")]
    assert sum(g.startswith("axes_") for g in groups) >= 1
    assert sum(g.startswith("line2d_") for g in groups) >= 10
    points = [p.get("d") for p in root.iter(f"{SVG}path") if (p.get("d") or "").count("L") >= 1]
    xs = [float(x) for d in points for x in re.findall(r"[ML] ([-\d.]+) [-\d.]+", d)]
    assert xs and max(xs) - min(xs) > 0.3 * width  # the curves cross the picture
    words = " ".join("".join(t.itertext()) for t in root.iter(f"{SVG}text"))
    assert re.search(r"\b[xb]\b", words) and len(words) > 20
    assert "prefers-color-scheme: dark" in "".join(root.itertext())


def test_writing_twice_gives_the_same_bytes_and_check_sees_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(fa.registry, "names", fa.names)
    some = ("relu", "elu", "softmax")
    monkeypatch.setattr(fa, "names", lambda: some)
    list(writing.write(tmp_path / "a", {}))
    list(writing.write(tmp_path / "b", {}))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 4 + 5 + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert list(writing.stale(tmp_path / "a", {})) == []
    page = tmp_path / "a" / "relu.md"
    page.write_text(page.read_text().replace("dead", "alive"))
    (tmp_path / "a" / "pictures" / "elu.svg").unlink()
    (tmp_path / "a" / "gelx.md").write_text("gone")
    digests = tmp_path / "a" / "pictures" / "digests.json"
    digests.write_text(digests.read_text().replace('"softmax": "', '"softmax": "0'))
    assert sorted(writing.stale(tmp_path / "a", {})) == [
        "gelx.md belongs to no op",
        "pictures/elu.svg is missing",
        "pictures/softmax.svg shows something else",
        "relu.md differs",
    ]
    list(writing.write(tmp_path / "a", {}))
    assert list(writing.stale(tmp_path / "a", {})) == []


def test_a_digest_sees_data_and_not_looks():
    same = writing.digest(fa.plot("elu", show=False))
    assert writing.digest(fa.plot("elu", show=False, dark=True)) == same
    assert writing.digest(fa.plot("elu", alpha=1.001, show=False)) != same
    assert writing.digest(fa.plot("elu", span=(-6, 6.1), show=False)) != same


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_facts_are_true(op):
    """What a page claims, tried on other points than those it was read from."""
    f, function = facts.facts(op), fa.get(op)
    x = np.random.default_rng(5).uniform(-39, 39, 20_000)
    with np.errstate(all="ignore"):
        y, slope = function(x), function.grad(x)
    known = np.isfinite(y) & np.isfinite(slope)
    x, y, slope = x[known], y[known], slope[known]
    if f.on_the_whole_line:  # at the edge of a domain there may be no bound
        assert y.min() >= f.low - 1e-3 and y.max() <= f.high + 1e-3 * max(1, abs(f.high))
        assert slope.max() <= f.largest_slope + 1e-3 * max(1, abs(f.largest_slope))
        assert slope.min() >= f.least_slope - 1e-3 * max(1, abs(f.least_slope))
    for low, high in f.dead:
        assert not slope[(x > low) & (x < high)].any()
    below, above = f.saturated
    assert (np.abs(slope[(x < below) | (x > above)]) < 2.0**-7).all()
    if math.isfinite(f.mean):
        z = np.random.default_rng(6).standard_normal(200_000)
        sample = function(z)
        assert abs(f.mean - sample.mean()) < 5 * sample.std() / math.sqrt(z.size) + 1e-9
    sentences = facts.told(facts.STRENGTHS, op) + facts.told(facts.WEAKNESSES, op)
    assert sentences and all(s.endswith(".") and "nan" not in s for s in sentences)


def test_what_is_said_of_well_known_ops():
    def said(op):
        return " ".join(facts.told(facts.STRENGTHS, op) + facts.told(facts.WEAKNESSES, op))

    assert "slope is at most 0.25" in said("sigmoid") and "mean 0.5" in said("sigmoid")
    assert "Bounded: values lie between −1 and 1" in said("tanh") and "Centred" in said("tanh")
    assert "Exactly flat below 0" in said("relu")
    assert "Never flat" in said("leaky_relu") and "dead" not in said("leaky_relu")
    assert "Not monotonic: the slope falls to −0.0998" in said("swish")
    assert "jumps at 0" in said("binary_step") and "learns nothing" in said("binary_step")


@written
def test_command(tmp_path):
    runner = CliRunner()
    root = FOLDER.parent.parent
    options = ["--results", str(root / "bench" / "results.json")]
    copy = tmp_path / "gallery"
    shutil.copytree(FOLDER, copy)
    result = runner.invoke(app, ["gallery", "--check", "--folder", str(copy), *options])
    assert result.exit_code == 0, result.stderr
    (copy / "relu.md").write_text("")
    result = runner.invoke(app, ["gallery", "--check", "--folder", str(copy), *options])
    assert result.exit_code == 1 and "relu.md differs" in result.stderr
