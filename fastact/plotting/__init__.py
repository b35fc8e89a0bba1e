"""`fa.plot`: an op and its derivative, several ops, families, errors. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import fastact as fa

RELATIONS = ("sigmoids",)


def requests_of(
    ops: tuple[str, ...], family: bool | str, parameters: dict[str, Any]
) -> list[tuple[str, dict[str, float]]]:
    """What is to be drawn: each op with each of its sets of parameters."""
    from fastact.plotting import curves

    used = set()
    requests = []
    for name in ops:
        known = [p.name for p in getattr(fa.get(name).record, "parameters", ())]
        own = {p: v for p, v in parameters.items() if p in known}
        used |= set(own)
        sets: list[dict[str, float]] = [{}]
        for p, given in own.items():
            values = given if isinstance(given, Iterable) else [given]
            sets = [one | {p: float(v)} for one in sets for v in values]
        if family:
            more = curves.family(name, family if isinstance(family, str) else "")
            sets = [one | other for one in sets for other in more]
        requests += [(name, one) for one in sets]
    unknown = sorted(set(parameters) - used)
    if unknown:
        raise TypeError(f"plot: {', '.join(ops)} take no parameter named {', '.join(unknown)}")
    return requests


def plot(
    *ops: str,
    span: tuple[float, float] | None = None,
    derivative: bool = True,
    family: bool | str = False,
    error: bool = False,
    relation: str | None = None,
    dtype: str = "float32",
    dark: bool = False,
    file: Any = None,
    show: bool | None = None,
    **parameters: Any,
) -> Any:
    """Draw activations and their derivatives.

    One op: the function and its derivative, regions where it is saturated shaded, kinks and
    limits marked. Several: functions and derivatives side by side. A parameter with several
    values, or `family=True`, gives one curve for each.

    Parameters
    ----------
    *ops : str
        Names of ops.
    span : (float, float), optional
        The range of x; by default one that shows what is special about the ops.
    derivative : bool, default True
        Whether to draw derivatives too.
    family : bool or str, default False
        Values of the op's first parameter, or of the one that is named, that show what it does.
    error : bool, default False
        Draw the error in ULP over the line instead, beside NumPy, and SciPy and PyTorch where
        they are installed; of one op, with its default parameters.
    relation : "sigmoids", optional
        Draw how sigmoid, bipolar_sigmoid and tanh are related, instead of ops.
    dtype : "float32" or "float64"
        For `error`.
    dark : bool, default False
        A dark figure. A light SVG turns dark by itself on a page that is dark.
    file : path, optional
        Where to write the figure; .svg, .png or .pdf.
    show : bool, optional
        Whether to open a window. By default one opens where there is a screen and no `file` is
        given; where there is no screen, the figure is written to `fastact-<ops>.png` in the
        current folder. In a notebook the figure that is returned shows by itself.
    **parameters
        Parameters of the ops: a number, or several, such as `negative_slope=[0.01, 0.1]`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    KeyError
        If there is no op of a name.
    TypeError, ValueError
        For ops that cannot be drawn together, parameters that they do not have, a span without
        length, or a file of another format.

    Examples
    --------
    >>> import fastact as fa
    >>> figure = fa.plot("elu", alpha=[0.5, 1, 2], show=False)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['elu(alpha=0.5)', 'elu(alpha=1)', 'elu(alpha=2)']
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise ImportError("plot: needs matplotlib: pip install 'fastact[plot]'") from None
    from fastact.plotting import showing, style

    path = None if file is None else showing.checked(file)
    theme = style.DARK if dark else style.LIGHT
    draw, size, name = prepared(ops, span, derivative, family, error, relation, dtype, parameters)
    window = showing.has_screen() if show is None and file is None else bool(show)
    with mpl.rc_context(style.settings(theme)):
        figure = new_figure(window, size)
        draw(figure, theme=theme)
        if path is None and show is None and not window and not showing.in_notebook():
            path = Path(f"fastact-{name}.png")
            print(f"no screen: written to {path}")
        if path is not None:
            showing.save(figure, path, dark)
    if window:
        from matplotlib import pyplot

        pyplot.show()
    return figure


def new_figure(window: bool, size: tuple[float, float]) -> Any:
    """A figure, which pyplot knows if it is to have a window."""
    if window:
        from matplotlib import pyplot

        return pyplot.figure(figsize=size, layout="constrained")
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def prepared(
    ops: tuple[str, ...],
    span: Any,
    derivative: bool,
    family: bool | str,
    error: bool,
    relation: str | None,
    dtype: str,
    parameters: dict[str, Any],
) -> tuple[Any, tuple[float, float], str]:
    """What draws the figure, its size in inches, and a name for it; arguments are checked."""
    from fastact.plotting import curves, errors, figures

    if relation is not None:
        if relation not in RELATIONS:
            raise ValueError(f"plot: relation must be 'sigmoids', got {relation!r}")
        return figures.sigmoids, (10.5, 4.4), relation
    if not ops:
        raise TypeError("plot: name at least one op; fastact.names() lists them")
    names = tuple(fa.get(op).record.name for op in ops)
    if span is not None:
        low, high = map(float, span)
        if not low < high:
            raise ValueError(f"plot: span must be two finite numbers that rise, got {span!r}")
        span = low, high
    if error:
        if len(names) > 1 or not curves.is_elementwise(names[0]):
            raise ValueError("plot: error needs one elementwise op")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"plot: dtype must be 'float32' or 'float64', got {dtype!r}")
        draw = partial(errors.draw, op=names[0], dtype=dtype)
        return draw, (8.0, 6.4), f"{names[0]}-error"
    stem = "-".join(names)
    own = figures.alone(names[0])
    if len(names) == 1 and own is not None:
        return (*own, stem)
    strange = [name for name in names if not curves.is_elementwise(name)]
    if strange:
        raise ValueError(
            f"plot: {', '.join(strange)} cannot be drawn as a curve"
            + (" beside others" if figures.alone(strange[0]) else "")
        )
    requests = requests_of(names, family, parameters)
    options: dict[str, Any] = {"span": span, "derivative": derivative}
    if len(requests) == 1:
        return partial(figures.one, request=requests[0], **options), (7.2, 4.4), stem
    width = 10.5 if derivative else 7.2
    return partial(figures.several, requests=requests, **options), (width, 4.4), stem
