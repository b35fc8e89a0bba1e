"""Make every coefficient and constant of `fastact/`, and check the ones in use.

    python ci/coefficients.py            print them, ready to paste
    python ci/coefficients.py --check    compare them with those in the modules; 1 if one differs

A polynomial is the weighted minimax fit (Remez exchange, 60 digits). Its coefficients are
rounded one after another, lowest power first; after each rounding the rest is fitted again, so
that the higher powers take up what the rounding lost.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

from fastact.numerics.pieces import EIGHTHS

mp.mp.dps = 60
Real = Callable[..., mp.mpf]
# Half of ln 2, and a little: the integer part is found by a product that is itself rounded.
HIGH = mp.log(2) / 2 * mp.mpf(1.0001)
LOW = -HIGH


@dataclass(frozen=True)
class Fit:
    """A table: sum of table[k] * x**k approximates `target` on [low, high], for each dtype.

    The error that is levelled is weight(x) * (sum - target(x)); it is relative to the result
    that the table serves. `given` are lowest coefficients that are fixed beforehand.
    """

    module: str
    name: str
    target: Real
    weight: Real
    interval: dict[str, tuple[mp.mpf, mp.mpf]]
    degree: dict[str, int]
    given: tuple[float, ...] = ()
    dtypes: tuple[str, ...] = ("single", "double")


KIND: dict[str, type[np.floating]] = {"single": np.float32, "double": np.float64}


def interior(low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    """Chebyshev points of an interval, without its 0: a target may be 0/0 there."""
    middle, half = (low + high) / 2, (high - low) / 2
    points = (middle - half * mp.cos(mp.pi * k / count) for k in range(count + 1))
    return [x for x in points if abs(x) > half / 10**6]


def rounded(value: mp.mpf, kind: type[np.floating]) -> mp.mpf:
    """The nearest number of the dtype (through 17 digits: no double rounding in practice)."""
    if kind is np.float64:
        return mp.mpf(float(value))
    with mp.workprec(24):
        return +value


def exchange(
    target: Real, weight: Real, powers: list[int], low: mp.mpf, high: mp.mpf
) -> list[mp.mpf]:
    """Coefficients of the minimax fit in the given consecutive powers."""
    count = len(powers) + 1
    grid = interior(low, high, 40 * count)
    exact = [target(x) for x in grid]
    # with lower powers fixed, what is left is x**powers[0] times a polynomial: its sign at
    # x < 0 goes into the weight, or the error of the best fit would not alternate there
    scale = [weight(x) * mp.sign(x) ** powers[0] for x in grid]
    nodes = [round(k * (len(grid) - 1) / (count - 1)) for k in range(count)]
    for _ in range(30):
        matrix = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, k in enumerate(nodes):
            for column, power in enumerate(powers):
                matrix[row, column] = grid[k] ** power * scale[k]
            matrix[row, count - 1] = (-1) ** row
            right[row] = exact[k] * scale[k]
        solution = mp.lu_solve(matrix, right)
        fit = list(solution[: count - 1])
        error = [
            s * (mp.polyval(fit[::-1], x) * x ** powers[0] - f)
            for x, f, s in zip(grid, exact, scale, strict=True)
        ]
        peaks = alternation(error, count)
        if peaks == nodes or peaks is None:
            break
        nodes = peaks
    return fit


def alternation(error: list[mp.mpf], count: int) -> list[int] | None:
    """Where the error peaks, once per change of sign; the `count` largest in a row."""
    peaks: list[int] = []
    for k, e in enumerate(error):
        if peaks and (e > 0) == (error[peaks[-1]] > 0):
            if abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = k
        else:
            peaks.append(k)

    def size(k: int) -> mp.mpf:
        return abs(error[peaks[k]])

    while len(peaks) > count:
        least = min(range(len(peaks)), key=size)
        if len(peaks) == count + 1 or least in (0, len(peaks) - 1):
            peaks.pop(0 if size(0) < size(-1) else -1)
        else:  # an interior peak goes with a neighbour, or the signs would not alternate
            peaks.pop(least)
            peaks.pop(least if size(least) < size(least - 1) else least - 1)
    return peaks if len(peaks) == count else None


def make(fit: Fit, dtype: str) -> tuple[tuple[float, ...], float]:
    """The rounded table, highest power first, and its largest weighted error in half units."""
    kind = KIND[dtype]
    low, high = fit.interval[dtype]
    done = [mp.mpf(c) for c in fit.given]

    def excess(x: mp.mpf) -> mp.mpf:
        return mp.polyval(done[::-1], x) - fit.target(x) if done else -fit.target(x)

    while len(done) <= fit.degree[dtype]:
        powers = list(range(len(done), fit.degree[dtype] + 1))
        found = exchange(lambda x: -excess(x), fit.weight, powers, low, high)
        done.append(rounded(found[0], kind))
    worst = max(abs(fit.weight(x) * excess(x)) for x in interior(low, high, 1000))
    return tuple(float(c) for c in reversed(done)), float(worst / np.finfo(kind).epsneg)


def seed_and_step() -> tuple[tuple[int, int], float]:
    """The constants of `rough_reciprocal` that level the error of q (STEP - q d).

    q d has the same range for every binade of d, so two suffice: q's own exponent changes once.
    """
    mantissas = 1 + np.arange(1 << 16) / (1 << 16)
    d = np.concatenate([mantissas, 2 * mantissas])
    best = (np.inf, 0, 0.0)
    for offset in range(0xC0000, 0xD8000, 0x400):
        q = (np.uint64((2046 << 52) - (offset << 29)) - d.view(np.uint64)).view(np.float64)
        low, high = (q * d).min(), (q * d).max()
        for step in np.linspace(2.0008, 2.0018, 101):
            ends = (low * (step - low), high * (step - high), step * step / 4)
            best = min(best, (max(abs(e - 1) for e in ends), offset, float(step)))
    _, offset, step = best
    return ((254 << 23) - offset, (2046 << 52) - (offset << 29)), round(step, 5)


EXPONENTIAL = "fastact.numerics.exponential"
LOGARITHM = "fastact.numerics.logarithm"
HYPERBOLIC = "fastact.numerics.hyperbolic"
ERROR_FUNCTION = "fastact.numerics.error_function"
MISH_TABLES = "fastact.numerics.mish_tables"
CUBIC_TABLES = "fastact.numerics.cubic_tables"
HYPERBOLIC_TABLES = "fastact.numerics.hyperbolic_tables"
LOGISTIC_TABLE = "fastact.numerics.logistic_table"
SWISH_TABLE = "fastact.numerics.swish_table"
TANH_TABLE = "fastact.numerics.tanh_table"
SECANT_TABLE = "fastact.numerics.secant_table"
GAUSSIAN_TABLES = "fastact.numerics.gaussian_tables"
LOGSUM = "fastact.numerics.logsum"
SOFTPLUS_TABLE = "fastact.numerics.softplus_table"
SMOOTH = "fastact.activations.smooth"
RECIPROCAL = "fastact.numerics.reciprocal"
EXACT = "fastact.numerics.exact"
EXPONENTIAL_LINEAR = "fastact.activations.exponential_linear"

# Where tanh passes from one polynomial to the other: the two are about equally good there.
TANH_SPLIT = {"single": mp.mpf(1), "double": mp.mpf(0.65)}


def first_binade(r: mp.mpf) -> mp.mpf:
    """tanh needs exp(-2r) most precisely in its largest binade, which TANH_SPLIT cuts short."""
    return mp.mpf(1) if mp.exp(-2 * r) < 1.1 else mp.mpf(0.5)


def tanh_series(square: mp.mpf) -> mp.mpf:
    a = mp.sqrt(square)
    return (mp.tanh(a) - a) / a**3


def mills(a: mp.mpf) -> mp.mpf:
    """Phi(-a) exp(a**2/2), a multiple of Mills' ratio."""
    return mp.exp(a * a / 2) * mp.erfc(a / mp.sqrt(2)) / 2


# Where Phi(-a) = a phi(a): the derivative of x Phi(x) has its zero at -ROOT.
ROOT = mp.findroot(lambda a: mills(a) - a / mp.sqrt(2 * mp.pi), 0.75)


def slope_without_root(a: mp.mpf) -> mp.mpf:
    """(Phi(-a) - a phi(a)) exp(a**2/2)/(ROOT - a), continued through the root."""
    if abs(a - ROOT) < mp.mpf(10) ** -20:
        return 2 / mp.sqrt(2 * mp.pi) - ROOT * mills(ROOT)
    return (mills(a) - a / mp.sqrt(2 * mp.pi)) / (ROOT - a)


def half_line(name: str, value: Real, dtype: str, degree: int) -> Fit:
    """A fit of value(a)/(K/4) or the like - 1 in h - centre, where h = a/(4 (1 + a/K))."""
    module = importlib.import_module(ERROR_FUNCTION)
    k, far, centre = (
        mp.mpf(getattr(getattr(module, constant), dtype))
        for constant in ("K", "FAR", f"{name}_CENTRE")
    )

    def target(d: mp.mpf) -> mp.mpf:
        h = d + centre
        return value(k * h / (k / 4 - h), k) - 1

    ends = -centre, k / 4 * far / (far + k) - centre
    return Fit(
        ERROR_FUNCTION,
        name,
        target=target,
        weight=lambda d: 1 / (1 + target(d)),
        interval={dtype: ends},
        degree={dtype: degree},
        dtypes=(dtype,),
    )


def beyond_tables(name: str, value: Real, degree: int) -> Fit:
    """A fit of value(a) in a - MIDDLE beyond the tables, float32."""
    module = importlib.import_module(GAUSSIAN_TABLES)
    far = importlib.import_module(ERROR_FUNCTION).FAR.single
    middle = mp.mpf(module.MIDDLE)
    return Fit(
        GAUSSIAN_TABLES,
        name,
        target=lambda d: value(middle + d),
        weight=lambda d: 1 / value(middle + d),
        interval={"single": (module.END - middle, far - middle)},
        degree={"single": degree},
        dtypes=("single",),
    )


def scaled_tail(a: mp.mpf) -> mp.mpf:
    return a * mills(a)


def scaled_slope(a: mp.mpf) -> mp.mpf:
    return mills(a) - a / mp.sqrt(2 * mp.pi)


def tail_over_h(a: mp.mpf, k: mp.mpf) -> mp.mpf:
    return (a + k) * mills(a) / (k / 4)


def slope_over_line(a: mp.mpf, k: mp.mpf) -> mp.mpf:
    return 2 * slope_without_root(a)


def tanh_difference(square: mp.mpf) -> mp.mpf:
    return -tanh_series(square)


def parts(value: mp.mpf) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A constant of each dtype, and what rounding took from it."""
    nearest = [rounded(value, kind) for kind in KIND.values()]
    return tuple(map(float, nearest)), tuple(float(value - v) for v in nearest)


def both(low: mp.mpf, high: mp.mpf) -> dict[str, tuple[mp.mpf, mp.mpf]]:
    return {"single": (low, high), "double": (low, high)}


FITS = (
    Fit(
        EXPONENTIAL,
        "EXPM1",
        target=lambda r: (mp.expm1(r) - r) / r**2,
        weight=lambda r: r**2 / mp.exp(r),
        interval=both(LOW, HIGH),
        degree={"single": 4, "double": 9},
    ),
    Fit(
        EXPONENTIAL,
        "EXPM1_RELATIVE",
        target=lambda r: (mp.expm1(r) - r) / r**2,
        weight=lambda r: r**2 / abs(mp.expm1(r)),
        interval=both(LOW, HIGH),
        degree={"single": 5, "double": 10},
    ),
    Fit(
        LOGARITHM,
        "ATANH",
        target=lambda square: (2 * mp.atanh(mp.sqrt(square)) / mp.sqrt(square) - 2) / square,
        weight=lambda square: square,
        interval=both(mp.mpf(0), ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf(1.0001)),
        degree={"single": 2, "double": 6},
    ),
    Fit(
        HYPERBOLIC,
        "EXP_MINUS_2",
        target=lambda r: mp.exp(-2 * r),
        weight=first_binade,
        interval=both(LOW / 2, HIGH / 2),
        degree={"single": 5, "double": 11},
        given=(1.0,),
    ),
    Fit(
        HYPERBOLIC,
        "COMPLEMENT",
        target=lambda e: 2 / (1 + e),
        weight=lambda e: e,
        interval={t: (mp.mpf(0), mp.exp(-2 * a)) for t, a in TANH_SPLIT.items()},
        degree={"single": 4, "double": 12},
    ),
    Fit(
        HYPERBOLIC,
        "TANH",
        target=tanh_series,
        weight=lambda square: mp.sqrt(square) ** 3 / mp.tanh(mp.sqrt(square)),
        interval={t: (mp.mpf(0), a**2) for t, a in TANH_SPLIT.items()},
        degree={"single": 6, "double": 10},
    ),
    Fit(
        HYPERBOLIC,
        "TANH_DIFFERENCE",
        target=tanh_difference,
        weight=lambda square: 1 / tanh_difference(square),
        interval=both(mp.mpf(0), mp.mpf(1)),
        degree={"single": 7, "double": 15},
    ),
    Fit(
        LOGSUM,
        "LOG_COMPLEMENT",
        target=lambda w: (-mp.log1p(-w) / w - 1) / w,
        weight=lambda w: w * w / -mp.log1p(-w),
        interval=both(mp.mpf(0), mp.mpf(1) / 2),
        degree={"single": 8, "double": 19},
    ),
    Fit(
        LOGSUM,
        "LOG1P",
        target=lambda e: (mp.log1p(e) / e - 1) / e,
        weight=lambda e: e * e / mp.log1p(e),
        interval=both(mp.mpf(0), mp.mpf(1)),
        degree={"single": 8, "double": 19},
    ),
    Fit(
        LOGSUM,
        "LOG_RATIO",
        target=lambda x: mp.log(-mp.expm1(-x) / x) / x,
        weight=lambda x: x / mp.log(-mp.expm1(-x)),
        interval=both(mp.mpf(0), mp.log(2) * mp.mpf(1.0001)),
        degree={"single": 3, "double": 8},
    ),
    half_line("TAIL", tail_over_h, "single", 9),
    half_line("TAIL", tail_over_h, "double", 23),
    half_line("SLOPE", slope_over_line, "single", 8),
    half_line("SLOPE", slope_over_line, "double", 21),
    beyond_tables("FAR_TAIL", scaled_tail, 8),
    beyond_tables("FAR_SLOPE", scaled_slope, 8),
)


ENTRIES = 32
POINTS = 24


@dataclass(frozen=True)
class Pieces:
    """A table of polynomials for `pieces`, float32: piece k is for x between the two ends(k).

    Each piece is taken about a point near its middle at which the target is almost a float32, so
    that rounding its lowest coefficient costs nothing; `about` are points that must be such. Where
    `line` is set, the piece that begins at 0 is what x is added to (`pieces_from_line`).
    """

    module: str
    name: str
    target: Real
    ends: Callable[[int], tuple[mp.mpf, mp.mpf]]
    degree: int
    about: tuple[mp.mpf, ...]
    line: bool = False

    def centre(self, k: int) -> mp.mpf:
        low, high = self.ends(k)
        single = KIND["single"]
        for x in self.about:
            if low <= x < high:
                return rounded(x, single)
        start = np.float32(float((low + high) / 2)).view(np.int32)
        candidates = (start + np.arange(-100, 100, dtype=np.int32)).view(np.float32)

        def loss(x: mp.mpf) -> mp.mpf:
            value = self.target(x)
            return abs(rounded(value, single) / value - 1)

        return min((mp.mpf(float(c)) for c in candidates), key=loss)

    def beside(self, k: int, x: mp.mpf) -> mp.mpf:
        """What is added to the polynomial of piece k."""
        return x if self.line and self.ends(k)[0] == 0 else mp.mpf(0)

    def piece(self, k: int) -> list[mp.mpf]:
        """The centre, and the coefficients, highest power first.

        Each coefficient in turn is rounded, lowest power first, and what is left fitted again,
        by least squares of the relative error at Chebyshev's points.
        """
        (low, high), centre = self.ends(k), self.centre(k)
        angles = [mp.pi * (n + mp.mpf(0.5)) / POINTS for n in range(POINTS)]
        at = [(low + high + (high - low) * mp.cos(angle)) / 2 - centre for angle in angles]
        exact = [self.target(centre + d) for d in at]
        done = [rounded(self.target(centre), KIND["single"])]
        while len(done) <= self.degree:
            powers = range(len(done), self.degree + 1)
            matrix = mp.matrix([[d**p / f for p in powers] for d, f in zip(at, exact, strict=True)])
            rest = [
                1 - (mp.polyval(done[::-1], d) + self.beside(k, d)) / f
                for d, f in zip(at, exact, strict=True)
            ]
            done.append(rounded(mp.lu_solve(matrix, mp.matrix(rest))[0], KIND["single"]))
        return [centre, *reversed(done)]

    def make(self) -> tuple[tuple[float, ...], ...]:
        pieces = [self.piece(k) for k in range(ENTRIES)]
        return tuple(tuple(float(c) for c in row) for row in zip(*pieces, strict=True))

    def error(self, rows: tuple[tuple[float, ...], ...]) -> float:
        """The largest relative error of the pieces, in half units in the last place."""
        worst = mp.mpf(0)
        used = np.float32(rows).astype(float).T.tolist()
        for k, (centre, *coefficients) in enumerate(used):
            low, high = self.ends(k)
            for n in range(1, 40):  # not at 0, where a target may be 0
                x = low + (high - low) * (n + mp.mpf("0.01")) / 40
                exact = self.target(x)
                value = mp.polyval(coefficients, x - centre) + self.beside(k, x)
                worst = max(worst, abs(value / exact - 1))
        return float(worst / np.finfo(np.float32).epsneg)


def normal_tail(a: mp.mpf) -> mp.mpf:
    return a * mp.ncdf(-a)


def normal_slope(a: mp.mpf) -> mp.mpf:
    return mp.ncdf(-a) - a * mp.npdf(a)


# gelu_tanh is x sigma(u(x)), sigma(-u) falling like exp(-u)
GELU_TANH_LINEAR = 2 * mp.sqrt(2 / mp.pi)
GELU_TANH_CUBIC = GELU_TANH_LINEAR * mp.mpf("0.044715")


def below_sigmoid(a: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(GELU_TANH_LINEAR * a + GELU_TANH_CUBIC * a**3))


def cubic_tail(a: mp.mpf) -> mp.mpf:
    return a * below_sigmoid(a)


def cubic_slope(a: mp.mpf) -> mp.mpf:
    s = below_sigmoid(a)
    return s - a * (GELU_TANH_LINEAR + 3 * GELU_TANH_CUBIC * a * a) * s * (1 - s)


CUBIC_ROOT = mp.findroot(cubic_slope, 0.75)


def tanh_difference_over_cube(a: mp.mpf) -> mp.mpf:
    """(a - tanh(a))/a**3, from its series where a digit of 60 in two would be lost."""
    if a < mp.mpf(10) ** -8:
        return mp.mpf(1) / 3 - 2 * a * a / 15
    return (a - mp.tanh(a)) / a**3


def falling_logistic(a: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(a))


def logistic_slope(a: mp.mpf) -> mp.mpf:
    return falling_logistic(a) * falling_logistic(-a)


def swish_slope(a: mp.mpf) -> mp.mpf:
    return falling_logistic(a) - a * logistic_slope(a)


SWISH_ROOT = mp.findroot(swish_slope, 1.28)


def secant_square(a: mp.mpf) -> mp.mpf:
    return mp.sech(a) ** 2


def mish(x: mp.mpf) -> mp.mpf:
    return x * mp.tanh(mp.log1p(mp.exp(x)))


def mish_slope(x: mp.mpf) -> mp.mpf:
    t = mp.tanh(mp.log1p(mp.exp(x)))
    return t + x * (1 - t * t) / (1 + mp.exp(-x))


MISH_ROOT = mp.findroot(mish_slope, -1.19)


def even_pieces(
    module: str, name: str, target: Real, degree: int, about: tuple[mp.mpf, ...] = ()
) -> Pieces:
    """A table whose pieces are equally long, from where its module says that it begins."""
    there = importlib.import_module(module)
    lowest = round(getattr(there, "LOWEST", 0.0) * there.STEPS)

    def ends(k: int) -> tuple[mp.mpf, mp.mpf]:
        step = lowest + (k - lowest) % ENTRIES
        low = step - mp.mpf(0.5) if step or lowest else mp.mpf(0)
        return low / there.STEPS, (step + mp.mpf(0.5)) / there.STEPS

    return Pieces(module, name, target, ends, degree, about)


def softplus_tail(a: mp.mpf) -> mp.mpf:
    return mp.log1p(mp.exp(-a))


def pieces_of(
    module: str, name: str, target: Real, degree: int, about: tuple[mp.mpf, ...] = (mp.mpf(0),)
) -> Pieces:
    """A table for x >= 0 whose pieces grow or shrink, as its module says."""
    there = importlib.import_module(module)

    def where(value: mp.mpf) -> mp.mpf:
        root = mp.sqrt(mp.mpf(there.SLOWLY) ** 2 + 4 * there.FASTER * value)
        return 2 * value / (there.SLOWLY + root)

    def ends(k: int) -> tuple[mp.mpf, mp.mpf]:
        return where(max(mp.mpf(0), k - mp.mpf(0.5))), where(k + mp.mpf(0.5))

    return Pieces(module, name, target, ends, degree, about)


def eighths(module: str, name: str, target: Real, degree: int, line: bool) -> Pieces:
    """A table for x >= 0, a piece for each eighth of a binade of OFFSET + SCALE x."""
    there = importlib.import_module(module)

    def eighth(value: float) -> int:
        return int(np.float32(value).view(np.int32) >> EIGHTHS)

    def begin(k: int) -> mp.mpf:
        value = mp.mpf(float(np.int32(k << EIGHTHS).view(np.float32)))
        return max(mp.mpf(0), (value - there.OFFSET) / there.SCALE)

    def ends(k: int) -> tuple[mp.mpf, mp.mpf]:
        first = eighth(there.OFFSET)
        k = first + (k - first) % ENTRIES
        return begin(k), begin(k + 1)

    return Pieces(module, name, target, ends, degree, (mp.mpf(0),), line)


PIECES = (
    pieces_of(GAUSSIAN_TABLES, "TAIL", normal_tail, 6),
    pieces_of(GAUSSIAN_TABLES, "SLOPE", normal_slope, 6, (mp.mpf(0), ROOT)),
    pieces_of(CUBIC_TABLES, "TAIL", cubic_tail, 6),
    pieces_of(CUBIC_TABLES, "SLOPE", cubic_slope, 6, (mp.mpf(0), CUBIC_ROOT)),
    pieces_of(HYPERBOLIC_TABLES, "DIFFERENCE", tanh_difference_over_cube, 5, ()),
    eighths(TANH_TABLE, "TANH", mp.tanh, 4, line=True),
    even_pieces(SECANT_TABLE, "SQUARE", secant_square, 6, (mp.mpf(0),)),
    even_pieces(SOFTPLUS_TABLE, "TAIL", softplus_tail, 5),
    even_pieces(LOGISTIC_TABLE, "LOGISTIC", falling_logistic, 5),
    even_pieces(LOGISTIC_TABLE, "SLOPE", logistic_slope, 5, (mp.mpf(0),)),
    even_pieces(SWISH_TABLE, "SLOPE", swish_slope, 6, (mp.mpf(0), SWISH_ROOT)),
    even_pieces(MISH_TABLES, "MISH", mish, 7, (mp.mpf(0),)),
    even_pieces(MISH_TABLES, "SLOPE", mish_slope, 7, (mp.mpf(0), MISH_ROOT)),
)


def rounded_down(value: mp.mpf, kind: type[np.floating]) -> mp.mpf:
    """The largest number of the dtype that is not above a positive value."""
    nearest = rounded(value, kind)
    step = np.nextafter(kind(float(nearest)), kind(0))
    return nearest if nearest <= value else mp.mpf(float(step))


def selu_constants() -> tuple[mp.mpf, mp.mpf]:
    """(scale, scale alpha) with which a normal input keeps mean 0 and variance 1.

    From E[f] = 0 and E[f**2] = 1 over the normal distribution, where below 0 the moments of
    exp(z) and exp(2z) are exp(1/2) Phi(-1) and exp(2) Phi(-2).
    """
    once = mp.exp(mp.mpf(1) / 2) * mp.ncdf(-1)
    twice = mp.exp(2) * mp.ncdf(-2)
    alpha = mp.npdf(0) / (mp.mpf(1) / 2 - once)
    scale = 1 / mp.sqrt(mp.mpf(1) / 2 + alpha**2 * (twice - 2 * once + mp.mpf(1) / 2))
    return scale, scale * alpha


def two_parts(module: str, name: str, value: mp.mpf) -> tuple[tuple[str, str, tuple], ...]:
    """A constant as its value rounded down and the rest, for both dtypes."""
    high = [rounded_down(value, kind) for kind in KIND.values()]
    return (
        (module, name, tuple(float(h) for h in high)),
        (module, f"{name}_TAIL", tuple(float(value - h) for h in high)),
    )


SEED, STEP = seed_and_step()
SCALE, DEPTH = selu_constants()
QUICK, QUICK_TAIL = parts(mp.mpf("1.702"))
CUBIC, CUBIC_TAIL = parts(2 * mp.sqrt(2 / mp.pi) * mp.mpf("0.044715"))
# few enough digits for LINEAR minus a sum that has it as a term to be exact
LINEAR = [mp.nint(2 * mp.sqrt(2 / mp.pi) * 2**k) / 2**k for k in (20, 47)]
LN2 = {dtype: rounded(mp.log(2), kind) for dtype, kind in KIND.items()}
CONSTANTS = (
    (EXPONENTIAL, "LOG2E", float(1 / mp.log(2))),
    (EXPONENTIAL, "LN2", tuple(float(v) for v in LN2.values())),
    (EXPONENTIAL, "LN2_TAIL", tuple(float(mp.log(2) - v) for v in LN2.values())),
    (HYPERBOLIC, "MINUS_TWO_LOG2E", float(-2 / mp.log(2))),
    (HYPERBOLIC, "HALF_LN2", tuple(float(v / 2) for v in LN2.values())),
    (ERROR_FUNCTION, "ROOT_REST", float(ROOT - mp.mpf(0.75))),
    (SMOOTH, "QUICK", QUICK),
    (SMOOTH, "QUICK_TAIL", QUICK_TAIL),
    (SMOOTH, "LINEAR", tuple(map(float, LINEAR))),
    (SMOOTH, "LINEAR_TAIL", tuple(float(2 * mp.sqrt(2 / mp.pi) - v) for v in LINEAR)),
    (SMOOTH, "CUBIC", CUBIC),
    (SMOOTH, "CUBIC_TAIL", CUBIC_TAIL),
    (RECIPROCAL, "SEED", SEED),
    (RECIPROCAL, "STEP", STEP),
    *two_parts(EXACT, "SIXTH", mp.mpf(1) / 6),
    *two_parts(EXACT, "THIRD", mp.mpf(1) / 3),
    *two_parts(EXPONENTIAL_LINEAR, "SELU_SCALE", SCALE),
    *two_parts(EXPONENTIAL_LINEAR, "SELU_DEPTH", DEPTH),
    (EXPONENTIAL_LINEAR, "SELU_NEAREST", float(SCALE)),
    (
        EXPONENTIAL_LINEAR,
        "SELU_DEPTH_EXCESS",
        tuple(float(DEPTH / rounded_down(DEPTH, kind) - 1) for kind in KIND.values()),
    ),
)


def shown(value: float, dtype: str) -> str:
    """The shortest decimal that the dtype reads back as this value."""
    return str(np.float32(value)) if dtype == "single" else repr(value)


def check_fit(fit: Fit, dtype: str) -> bool:
    made, error = make(fit, dtype)
    used = getattr(getattr(importlib.import_module(fit.module), fit.name), dtype)
    same = [KIND[dtype](c) for c in used] == [KIND[dtype](c) for c in made]
    print(
        f"{fit.module}.{fit.name} {dtype}: error {error:.3f} half units", "" if same else "DIFFERS"
    )
    return same


def check_pieces(pieces: Pieces) -> bool:
    used = getattr(importlib.import_module(pieces.module), pieces.name)
    same = [[np.float32(c) for c in row] for row in used] == [
        [np.float32(c) for c in row] for row in pieces.make()
    ]
    error = pieces.error(used)
    print(f"{pieces.module}.{pieces.name}: error {error:.3f} half units", "" if same else "DIFFERS")
    return same


def check_constant(module: str, name: str, value: object) -> bool:
    used = getattr(importlib.import_module(module), name)
    if isinstance(value, tuple):
        pairs = zip((used.single, used.double), value, (np.float32, np.float64), strict=True)
        same = all(a == b or kind(a) == kind(b) for a, b, kind in pairs)
    else:
        same = used == value
    print(f"{module}.{name}", "" if same else f"DIFFERS: {value}")
    return same


def main() -> int:
    if "--check" in sys.argv[1:]:
        good = [check_fit(fit, dtype) for fit in FITS for dtype in fit.dtypes]
        good += [check_pieces(pieces) for pieces in PIECES]
        good += [check_constant(*constant) for constant in CONSTANTS]
        return 0 if all(good) else 1
    for fit in FITS:
        for dtype in fit.dtypes:
            table, error = make(fit, dtype)
            print(
                f"# {fit.module}.{fit.name} {dtype}, error {error:.3f} half units in the last place"
            )
            print("(" + ", ".join(shown(c, dtype) for c in table) + ")")
    for pieces in PIECES:
        print(f"# {pieces.module}.{pieces.name}")
        for row in pieces.make():
            print("(" + ", ".join(shown(c, "single") for c in row) + "),")
    for module, name, value in CONSTANTS:
        print(f"# {module}.{name} = {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
