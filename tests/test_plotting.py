"""Figures, rendered without a screen and looked at by what is drawn in them."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

import matplotlib as mpl

import fastact as fa
from fastact.cli import app
from fastact.gallery import facts
from fastact.plotting import curves, errors, figures, style

ELEMENTWISE = [name for name in fa.names() if curves.is_elementwise(name)]
ROWS = [name for name in fa.names() if figures.is_row(name)]


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


def lines(axes):
    """The labelled lines of a pair of axes."""
    return {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}


def scale(values):
    return max(1.0, float(np.abs(values[np.isfinite(values)]).max()))


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_the_lines_are_the_op(op):
    figure = fa.plot(op, show=False)
    (axes,) = figure.axes
    for label, function in (("f(x)", fa.get(op)), ("f′(x)", fa.get(op).grad)):
        x, y = lines(axes)[label].get_data()
        here = np.isfinite(y)
        assert here.sum() > 0.9 * curves.POINTS
        np.testing.assert_array_equal(y[here], function(x[here]))
    low, high = axes.get_xlim()
    kinks = curves.evaluated(fa.get(op).record, fa.get(op).record.kinks, {})
    assert low < high and all(low < k < high for k in kinks)
    bottom, top = axes.get_ylim()
    assert bottom < min(0, *axes.dataLim.intervaly) or bottom < np.nanmin(y)
    assert top - bottom <= 1.3 * 2 * max(abs(low), abs(high))


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_kinks_are_marked_and_lines_break_at_jumps(op):
    record = fa.get(op).record
    (axes,) = fa.plot(op, show=False).axes
    dots = {float(x.get_xdata()[0]) for x in axes.get_lines() if x.get_marker() == "o"}
    assert set(curves.evaluated(record, record.kinks, {})) <= dots
    if not facts.facts(op).on_the_whole_line:
        return  # steep where its domain ends
    for label in ("f(x)", "f′(x)"):
        x, y = lines(axes)[label].get_data()
        steps = np.abs(np.diff(y))
        steep = np.abs(np.diff(x)) * 50 + curves.JUMP
        assert not np.any(steps[np.isfinite(steps)] > steep[np.isfinite(steps)])


def test_relu_has_an_open_dot_where_its_slope_jumps():
    (axes,) = fa.plot("relu", show=False).axes
    dots = [d for d in axes.get_lines() if d.get_marker() == "o"]
    is_open = {
        (float(d.get_xdata()[0]), float(d.get_ydata()[0])): d.get_markerfacecolor()
        == style.LIGHT.paper
        for d in dots
    }
    assert is_open == {(0.0, 0.0): False, (0.0, 1.0): True}


def test_saturation_is_shaded_where_the_slope_is_small():
    tanh = curves.curve("tanh")
    edge = math.acosh(math.sqrt(128))  # sech^2 is 1/128 there
    (left, right) = tanh.saturated
    step = 12 / (curves.POINTS - 1)
    assert left[0] == -6 and abs(left[1] + edge) <= step
    assert right[1] == 6 and abs(right[0] - edge) <= step
    assert curves.curve("leaky_relu").saturated == ()
    # a zero of the slope that it only passes is none
    assert all(b < -4 for _, b in curves.curve("swish", span=(-9.0, 9.0)).saturated)
    (axes,) = fa.plot("tanh", show=False).axes
    assert len(axes.patches) == 2 and all(p.get_hatch() for p in axes.patches)


def test_limits_are_written():
    (axes,) = fa.plot("sigmoid", show=False).axes
    assert {t.get_text() for t in axes.texts} == {"f(−∞) = 0", "f(∞) = 1"}
    (axes,) = fa.plot("bipolar_sigmoid", show=False).axes
    assert {t.get_text() for t in axes.texts} == {"f(−∞) = −1", "f(∞) = 1"}


@pytest.mark.parametrize(
    ("op", "parameter"),
    [
        ("leaky_relu", "negative_slope"),
        ("elu", "alpha"),
        ("swish", "beta"),
        ("bipolar_sigmoid", "steepness"),
    ],
)
def test_families(op, parameter):
    values = curves.FAMILIES[parameter]
    for figure in (
        fa.plot(op, family=True, show=False),
        fa.plot(op, family=parameter, show=False),
        fa.plot(op, **{parameter: values}, show=False),
    ):
        for axes, function in zip(figure.axes, (fa.get(op), fa.get(op).grad), strict=True):
            drawn = lines(axes)
            assert list(drawn) == [f"{op}({parameter}={v:g})" for v in values]
            for line, value in zip(drawn.values(), values, strict=True):
                x, y = line.get_data()
                here = np.isfinite(y)
                np.testing.assert_array_equal(y[here], function(x[here], **{parameter: value}))


def test_several_ops_differ_without_colour():
    ops = ("sigmoid", "tanh", "relu", "elu", "swish", "leaky_relu", "identity")
    for axes in fa.plot(*ops, show=False).axes:
        looks = {(str(d.get_linestyle()), d.get_marker()) for d in lines(axes).values()}
        marks = {(*d.get_markevery(), d.get_marker()) for d in lines(axes).values()}
        assert len(looks) == len(marks) == len(ops)
        assert (
            len({d._dash_pattern[1] and tuple(d._dash_pattern[1]) for d in lines(axes).values()})
            > 5
        )


def test_the_sigmoids_are_one_curve():
    left, right = fa.plot(relation="sigmoids", show=False).axes
    drawn = lines(left)
    bipolar = drawn["bipolar_sigmoid(steepness=1)"].get_data()
    x, y = drawn["2 sigmoid(x) − 1"].get_data()
    np.testing.assert_allclose(y, np.interp(x, *bipolar), atol=1e-4)
    double = drawn["bipolar_sigmoid(steepness=2)"].get_data()
    x, y = drawn["tanh(x)"].get_data()
    np.testing.assert_allclose(y, np.interp(x, *double), atol=2e-4)
    assert np.nanmax(lines(right)["sigmoid"].get_ydata()) == 0.25
    assert np.nanmax(lines(right)["tanh"].get_ydata()) == 1.0


@pytest.mark.parametrize("op", ROWS)
def test_rows(op):
    (axes,) = fa.plot(op, show=False).axes
    drawn = list(lines(axes).values())
    x = drawn[0].get_xdata()
    y = figures.row_values(op, np.column_stack([x, *(np.full_like(x, v) for v in figures.ROW)]))
    expected = y.T if y.ndim == 2 else y[None]
    assert len(drawn) == len(expected)
    for line, values in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)


def test_rows_of_softmax_are_probabilities():
    for op in ("softmax", "softmin"):
        (axes,) = fa.plot(op, show=False).axes
        total = sum(line.get_ydata() for line in lines(axes).values())
        np.testing.assert_allclose(total, 1.0, rtol=1e-12)


@pytest.mark.parametrize("op", [n for n in fa.names() if figures.is_pair(n)])
def test_pairs(op):
    """The lines are the op, and the derivative is that of the lines."""
    left, right = fa.plot(op, show=False).axes
    assert len(lines(left)) == len(lines(right)) == 3
    for label, drawn in lines(left).items():
        x, y = drawn.get_data()
        slope = lines(right)[label].get_ydata()
        middle = np.gradient(y, x)[1:-1]
        smooth = np.abs(middle - slope[1:-1]) < 2e-3
        assert smooth.mean() > 0.98  # all but at kinks


@pytest.mark.parametrize("op", [n for n in fa.names() if figures.is_loss(n)])
def test_losses(op):
    left, right = fa.plot(op, show=False).axes
    assert len(lines(left)) == 3
    for label, drawn in lines(left).items():
        x, y = drawn.get_data()
        assert (y >= 0).all()
        slope = lines(right)[label].get_ydata()
        np.testing.assert_allclose(np.gradient(y, x)[1:-1], slope[1:-1], atol=2e-3)


def test_errors_beside_peers():
    """fastact keeps what it states; the textbook derivative loses every digit from 17 on."""
    upper, lower = fa.plot("sigmoid", error=True, show=False).axes
    ours, naive = lines(lower)["fastact"], lines(lower)["NumPy"]
    assert ours.get_ydata().max() <= fa.get("sigmoid").accuracy["float32"].grad + 1
    x, y = naive.get_data()
    assert y[x > 20].min() > 1e6
    assert (
        lines(upper)["fastact"].get_ydata().max() <= fa.get("sigmoid").accuracy["float32"].forward
    )
    assert upper.get_ylabel() == "error in ULP"


def test_scipy_and_torch_are_drawn_where_installed():
    drawn = {e.provider for e in errors.measured("sigmoid", "forward", "float64")}
    for package, title in (("scipy", "SciPy"), ("torch", "torch")):
        try:
            __import__(package)
        except ImportError:
            continue
        assert title in drawn


@pytest.mark.parametrize("dark", [False, True])
def test_files_are_the_same_every_time(tmp_path, dark):
    for kind in ("svg", "png"):
        first, second = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
        for file in (first, second):
            fa.plot("elu", file=file, dark=dark)
        assert first.read_bytes() == second.read_bytes()
    svg = (tmp_path / "1.svg").read_text()
    assert ("prefers-color-scheme: dark" in svg) == (not dark)
    assert "date" not in svg.lower().replace("update", "")
    picture = mpl.image.imread(tmp_path / "1.png")[..., :3]
    paper = mpl.colors.to_rgb((style.DARK if dark else style.LIGHT).paper)
    ink = np.abs(picture - paper).max(axis=-1) > 0.2
    assert 0.02 < ink.mean() < 0.5
    assert ink[:, : ink.shape[1] // 2].any() and ink[:, ink.shape[1] // 2 :].any()


def test_every_colour_of_a_light_svg_has_a_dark_one(tmp_path):
    fa.plot("relu", "tanh", file=tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    head, body = text.split("</style>", 1)
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
    assert used and all(f": {colour}" in head for colour in used)


def test_without_a_screen_a_file_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fa.plot("tanh", "relu")
    assert [f.name for f in tmp_path.iterdir()] == ["fastact-tanh-relu.png"]
    assert "fastact-tanh-relu.png" in capsys.readouterr().out
    fa.plot("tanh", show=False)
    assert len(list(tmp_path.iterdir())) == 1


def test_with_a_screen_a_window_opens(monkeypatch):
    from matplotlib import pyplot

    from fastact.plotting import showing

    opened = []
    monkeypatch.setattr(showing, "has_screen", lambda: True)
    monkeypatch.setattr(pyplot, "show", lambda: opened.append(pyplot.get_fignums()))
    figure = fa.plot("tanh")
    assert opened == [[figure.number]]
    pyplot.close(figure)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fa.plot(), TypeError, "at least one"),
        (lambda: fa.plot("sigmod"), KeyError, "sigmoid"),
        (lambda: fa.plot("relu", alpha=1), TypeError, "alpha"),
        (lambda: fa.plot("relu", family=True), ValueError, "no parameter"),
        (lambda: fa.plot("elu", family="beta"), ValueError, "has alpha"),
        (lambda: fa.plot("relu", span=(1, 1)), ValueError, "span"),
        (lambda: fa.plot("relu", file="a.jpeg2"), ValueError, "'a.jpeg2'"),
        (lambda: fa.plot("relu", "softmax"), ValueError, "softmax"),
        (lambda: fa.plot("relu", "tanh", error=True), ValueError, "one"),
        (lambda: fa.plot("relu", error=True, dtype="int8"), ValueError, "'int8'"),
        (lambda: fa.plot(relation="family"), ValueError, "'family'"),
    ],
)
def test_bad_requests(call, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        call()
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"fastact\[plot\]"):
        fa.plot("relu")


def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import sys, fastact as fa; fa.plot; fa.relu(1.0); fa.gain('relu');"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = lambda *words: CliRunner().invoke(app, ["plot", *words])  # noqa: E731
    assert run("elu", "-p", "alpha=0.5,2", "--span", "-3", "3", "-o", "a.svg").exit_code == 0
    assert "elu(alpha=0.5)" in (tmp_path / "a.svg").read_text()
    assert run("tanh", "sigmoid", "--dark").exit_code == 0
    assert (tmp_path / "fastact-tanh-sigmoid.png").exists()
    for words in (["sigmod"], [], ["relu", "-p", "alpha"], ["relu", "-p", "alpha=1"]):
        result = run(*words)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error:")
