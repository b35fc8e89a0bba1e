"""The laboratory's claims, on fixed seeds and with margins; its gradients against autograd."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("sklearn")

import fastact as fa
from fastact import lab
from fastact.cli import app
from fastact.lab import dead_units, explosions, gradient_flow
from fastact.lab.data import load
from fastact.lab.network import INITIALISATIONS, Network, norms

seeds = pytest.mark.parametrize("seed", [0, 1, 2])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "swish"])
def test_gradients_are_those_of_autograd(activation):
    torch = pytest.importorskip("torch")
    forms = {"swish": torch.nn.functional.silu, "elu": torch.nn.functional.elu}
    data = load()
    x, targets = data.x[:32], data.targets[:32]
    network = Network.build(activation, (64, 20, 15, 10), seed=1)
    loss, gradients = network.gradients(x, targets)
    tensors = [torch.tensor(p, requires_grad=True) for p in network.parameters]
    h = torch.tensor(x)
    for k in range(3):
        z = h @ tensors[k] + tensors[3 + k]
        h = forms.get(activation, getattr(torch, activation, None))(z)
    expected = torch.nn.functional.cross_entropy(z, torch.tensor(targets))
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    for g, t in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_initialisations(name):
    random = np.random.default_rng(0)
    w = INITIALISATIONS[name](random, 300, 200, 1.5)
    deviation = {
        "glorot": 1.5 * math.sqrt(2 / 500),
        "lecun": 1.5 * math.sqrt(1 / 300),
        "he": math.sqrt(2 / 300),
        "orthogonal": 1.5 * math.sqrt(1 / 300),
    }[name]
    assert w.shape == (300, 200) and w.std() == pytest.approx(deviation, rel=0.02)
    if name == "orthogonal":
        np.testing.assert_allclose(w.T @ w, 1.5**2 * np.eye(200), atol=1e-12)
        wide = INITIALISATIONS[name](random, 20, 30, 1.0)
        np.testing.assert_allclose(wide @ wide.T, np.eye(20), atol=1e-12)


@seeds
def test_the_sigmoid_lets_gradients_vanish(seed):
    n = gradient_flow.layer_norms("sigmoid", 20, seed)
    assert len(n) == 20 and n[0] < 1e-6 * n[-1]
    assert all(a < b for a, b in pairwise(n[:16]))  # layer by layer
    few = gradient_flow.layer_norms("sigmoid", 5, seed)
    assert few[0] > 1e-3 * few[-1]  # fewer layers are a remedy


@seeds
@pytest.mark.parametrize("activation", ["selu", "elu", "relu", "tanh"])
def test_the_right_gain_lets_gradients_through(activation, seed):
    if activation not in fa.names():
        pytest.skip(f"there is no {activation}")
    n = gradient_flow.layer_norms(activation, 20, seed)
    assert max(n[0] / n[-1], n[-1] / n[0]) < 30


def test_the_gain_is_what_matters():
    """Weights of half the size let the gradients of tanh vanish; those of its gain do not."""
    data = load()
    first = []
    for scale in (0.5, 1.0):
        network = Network.build("tanh", (64, *[64] * 19, 10), 0, scale=scale)
        first.append(norms(network.gradients(data.x[:512], data.targets[:512])[1])[0])
    assert first[0] < first[1] / 50


@pytest.mark.parametrize("seed", [0, 1])
def test_exploding_and_its_remedies(seed):
    found = lab.exploding(seed)
    accuracy = found.data["accuracy"]
    loss = found.data["loss"]
    norm = found.data["norm"]
    bad, clipped, shallow, *good = (r.title for r in explosions.REMEDIES)
    assert norm[bad][0] > 1e4 * norm["lecun"][0]
    assert math.isnan(loss[bad][-1]) or loss[bad][-1] > 1e3
    assert math.isfinite(loss[clipped][-1]) and loss[clipped][-1] < loss[clipped][0] / 3
    assert accuracy[shallow] > 0.7
    assert accuracy[bad] < 0.3 and min(accuracy[g] for g in good) > 0.45
    assert bad in found.rows[0] and "no number" in found.seen


@pytest.mark.parametrize("seed", [0, 1])
def test_relu_units_die_and_stay_dead(seed):
    found = lab.dying(seed)
    dead = found.data["dead"]
    assert dead["relu"][0] < 0.05
    assert dead["relu"][dead_units.ROUGH // dead_units.EVERY] > 0.1
    assert dead["relu"][-1] > 0.1
    assert max(dead["leaky_relu"]) < 0.02 and max(dead["elu"]) < 0.02
    accuracy = found.data["accuracy"]
    assert min(accuracy["leaky_relu"], accuracy["elu"]) > accuracy["relu"]


def test_temperature_changes_confidence_and_no_decision():
    found = lab.temperature(0).data["found"]
    confidence = [f["confidence"] for f in found.values()]
    entropy = [f["entropy"] for f in found.values()]
    assert confidence == sorted(confidence, reverse=True) and entropy == sorted(entropy)
    assert len({f["accuracy"] for f in found.values()}) == 1
    assert found[1.0]["accuracy"] > 0.9 and confidence[0] > 0.95 and confidence[-1] < 0.4


def test_every_finding_is_whole_and_drawn():
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from fastact.plotting import style

    for theme in (style.LIGHT, style.DARK):
        for run in (lab.vanishing, lab.temperature):
            found = run(seed=3)
            assert found.seen.endswith(".") and found.question.endswith("?")
            assert all(len(row) == len(found.columns) for row in found.rows)
            with matplotlib.rc_context(style.settings(theme)):
                figure = Figure()
                found.draw(figure, theme)
            assert all(axes.has_data() for axes in figure.axes)
    axes = figure.axes[1]
    (accuracy,) = (x for x in axes.get_lines() if x.get_label() == "accuracy")
    assert set(accuracy.get_ydata()) == {found.data["found"][1.0]["accuracy"]}


def test_command(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(app, ["lab", "vanishing", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "sigmoid" in result.stdout and "Through 20 layers of sigmoid" in result.stdout
    assert "norm of its gradient" in (tmp_path / "lab-vanishing.svg").read_text()
    data = json.loads(CliRunner().invoke(app, ["lab", "exploding", "--json"]).stdout)
    assert data[0]["name"] == "exploding"
    assert data[0]["loss"][explosions.REMEDIES[0].title][-1] is None
    assert CliRunner().invoke(app, ["lab", "nothing"]).exit_code == 2
    assert CliRunner().invoke(app, ["lab", "-o", str(tmp_path / "none")]).exit_code == 2
