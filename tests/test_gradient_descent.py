"""The step-by-step example: every intermediate value against autograd, and that it learns."""

import runpy
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parent.parent / "examples" / "gradient_descent.py"
pytest.importorskip("rich")
EXAMPLE = runpy.run_path(str(FILE))


def test_every_derivative_is_that_of_autograd():
    """HIPS autograd differentiates the loss by every intermediate value and every weight."""
    numpy = pytest.importorskip("autograd.numpy")
    from autograd import grad

    x, t, start = EXAMPLE["X"], EXAMPLE["T"], EXAMPLE["START"]
    values = EXAMPLE["forward"](start)

    def loss_of_z2(z2):
        return numpy.mean(numpy.logaddexp(0, z2) - t * z2)

    def loss_of_h(h, w):
        return loss_of_z2(numpy.dot(h, w["W2"]) + w["b2"])

    def loss_of_z1(z1, w):
        return loss_of_h(numpy.tanh(z1), w)

    def loss_of_w(w):
        return loss_of_z1(numpy.dot(x, w["W1"]) + w["b1"], w)

    expected = {
        "dz2": grad(loss_of_z2)(values["z2"]),
        "dh": grad(loss_of_h)(values["h"], start),
        "dz1": grad(loss_of_z1)(values["z1"], start),
        **{f"d{name}": g for name, g in grad(loss_of_w)(start).items()},
    }
    got = EXAMPLE["backward"](start, values)
    assert set(got) == set(expected)
    for name, value in got.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-16, err_msg=name)
    assert values["loss"] == pytest.approx(loss_of_w(start), rel=1e-14)
    np.testing.assert_allclose(values["h"], np.tanh(values["z1"]), rtol=1e-14)


def test_every_derivative_is_that_of_differences():
    """The same without another library: central differences of the loss."""
    start, step = EXAMPLE["START"], 1e-5
    got = EXAMPLE["backward"](start, EXAMPLE["forward"](start))
    for name, value in start.items():
        for index in np.ndindex(value.shape):
            losses = []
            for sign in (1, -1):
                moved = {**start, name: value.copy()}
                moved[name][index] += sign * step
                losses.append(EXAMPLE["forward"](moved)["loss"])
            slope = (losses[0] - losses[1]) / (2 * step)
            assert got[f"d{name}"][index] == pytest.approx(slope, abs=1e-9)


def test_the_update_goes_downhill_and_arrives():
    w, losses = EXAMPLE["descend"](EXAMPLE["START"])
    assert losses[1] < losses[0] and losses[-1] < 0.05
    assert ((EXAMPLE["forward"](w)["p"] > 0.5) == EXAMPLE["T"]).all()


def test_it_runs(capsys):
    EXAMPLE["main"]()
    assert "update" in capsys.readouterr().out
