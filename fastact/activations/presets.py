"""How other libraries name an op and its parameters, and which defaults they give them.

Sources: the reference pages of PyTorch 2 (torch.nn.functional), Keras 3 (keras.activations),
JAX (jax.nn), TensorFlow 2 (tf.nn) and ONNX (operator set 22). An entry is needed only where a
library differs from fastact: in the name, in a parameter's name or in its default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastact.activations.record import Activation

SLOPE = "negative_slope"


@dataclass(frozen=True)
class Preset:
    """An op of fastact under another library's names; `defaults` are by fastact's names."""

    op: str
    names: Mapping[str, str] = field(default_factory=dict)  # fastact's name -> the library's
    defaults: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """What a library has and fastact cannot express, and why."""

    reason: str


ALPHA_IS_SLOPE = {SLOPE: "alpha"}
Entry = Preset | Absent

PRESETS: dict[str, dict[str, Entry]] = {
    "torch": {
        "hardtanh": Preset("hard_tanh", {"min": "min_val", "max": "max_val"}),
        "logsigmoid": Preset("log_sigmoid"),
        "hard_sigmoid": Preset("hard_sigmoid"),
        "rrelu": Absent(
            "its slope is drawn at random while training; leaky_relu takes a given one"
        ),
    },
    "keras": {
        "linear": Preset("identity"),
        "leaky_relu": Preset("leaky_relu", defaults={SLOPE: 0.2}),
        "tanh_shrink": Preset("tanhshrink"),
        "threshold": Preset("threshold", {"value": "default_value"}),
        "soft_shrink": Preset("soft_shrink", {"lambd": "threshold"}),
        "hard_shrink": Preset("hard_shrink", {"lambd": "threshold"}),
        "exponential": Absent("it is np.exp"),
        "crelu": Absent("it concatenates relu(x) and relu(-x): two calls of relu"),
    },
    "jax": {
        "soft_sign": Preset("softsign"),
        "gelu": Preset("gelu_tanh"),
    },
    "tensorflow": {
        "leaky_relu": Preset("leaky_relu", ALPHA_IS_SLOPE, {SLOPE: 0.2}),
        "crelu": Absent("it concatenates relu(x) and relu(-x): two calls of relu"),
    },
    "onnx": {
        "leaky_relu": Preset("leaky_relu", ALPHA_IS_SLOPE),
        "hard_sigmoid": Preset(
            "clipped_linear",
            {"slope": "alpha", "offset": "beta"},
            {"slope": 0.2, "offset": 0.5, "min": 0.0, "max": 1.0},
        ),
        "thresholded_relu": Preset("threshold", {"threshold": "alpha"}, {"threshold": 1.0}),
        "swish": Preset("swish", {"beta": "alpha"}),
        "shrink": Absent(
            "its two parameters are independent: bias=0 is hard_shrink, bias=lambd soft_shrink"
        ),
    },
}


def plain(name: str) -> str:
    """A name without case and underscores: LeakyRelu is leaky_relu."""
    return name.replace("_", "").lower()


def entry(library: str, name: str) -> Entry | None:
    """What a library's table says of a name in any spelling."""
    if library not in PRESETS:
        listed = ", ".join(map(repr, PRESETS))
        raise ValueError(f"like must be one of {listed}, got {library!r}")
    return {plain(n): e for n, e in PRESETS[library].items()}.get(plain(name))


# The fields of a record that are written in its parameters
EXPRESSIONS = ("formula", "derivative", "constraint", "kink_note", "numpy", "stable", "torch")
SEVERAL = ("limits", "grad_limits", "kinks")


def in_words(text: str, new: Mapping[str, str]) -> str:
    """A text with parameters under their new names, all at once."""
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda found: new.get(found[0], found[0]), text)


def renamed(record: Activation, preset: Preset, library: str) -> Activation:
    """A record with another library's parameter names and defaults: the same kernels."""
    new = {p.name: preset.names.get(p.name, p.name) for p in record.parameters}
    parameters = tuple(
        replace(p, name=new[p.name], default=preset.defaults.get(p.name, p.default))
        for p in record.parameters
    )
    if parameters == record.parameters:
        return record
    texts: dict[str, Any] = {t: in_words(getattr(record, t), new) for t in EXPRESSIONS}
    texts |= {t: tuple(in_words(e, new) for e in getattr(record, t)) for t in SEVERAL}
    return replace(
        record,
        like=library,
        parameters=parameters,
        parameter_grads={new[n]: source for n, source in record.parameter_grads.items()},
        **texts,
    )
