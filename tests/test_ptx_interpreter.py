"""The PTX interpreter itself: known results, and each detector seen to fire."""

from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp
from ptx import (
    BarrierFault,
    Buffer,
    Machine,
    Misaligned,
    OutOfBounds,
    Race,
    ReadOnly,
    ShuffleFault,
    Uninitialised,
    UnknownInstruction,
    Unwritten,
    numerics,
    parse,
)

HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n"


def kernel(body, parameters=1, outside=""):
    """A kernel of u64 parameters p0, p1 …; %t is the thread, %g the thread of the grid."""
    declared = ", ".join(f".param .u64 p{i}" for i in range(parameters))
    loads = "".join(f"ld.param.u64 %p{i}, [p{i}];\n" for i in range(parameters))
    return f"""{HEADER}{outside}
    .visible .entry k({declared})
    {{
        .reg .pred %q<8>; .reg .b16 %h<8>; .reg .b32 %r<16>; .reg .f32 %f<16>;
        .reg .b64 %d<16>; .reg .f64 %e<8>; .reg .b64 %p<8>; .reg .b32 %t, %n, %c, %g;
        {loads}
        mov.u32 %t, %tid.x;  mov.u32 %n, %ntid.x;  mov.u32 %c, %ctaid.x;
        mad.lo.s32 %g, %c, %n, %t;
        {body}
        ret;
    }}"""


def launch(body, *buffers, threads=32, blocks=1, outside="", **options):
    perturb = options.pop("perturb", None)
    machine = Machine(kernel(body, len(buffers), outside), perturb=perturb)
    machine.launch(blocks, threads, buffers, **options)
    return machine


def at(pointer, size, thread="%g", to="%d15"):
    """Code: the address of this thread's element."""
    return f"mul.wide.u32 {to}, {thread}, {size}; add.s64 {to}, {to}, {pointer};\n"


def evaluate(code, result, *sources, perturb=None):
    """Run `code`, which computes %y from %x0, %x1 …, on each element of the sources."""
    n = len(sources[0])
    out = Buffer(np.zeros(n, result), "out")
    size = out.dtype.itemsize
    body = [f".reg .b{8 * max(size, 2)} %y; .reg .pred %a, %b;"]
    for i, source in enumerate(sources):
        width = 8 * source.dtype.itemsize
        body.append(f".reg .b{width} %x{i};" + at(f"%p{i}", width // 8))
        body.append(f"ld.global.b{width} %x{i}, [%d15];")
    body.append(code + ";" + at(f"%p{len(sources)}", size))
    body.append(f"st.global.b{8 * size} [%d15], %y;")
    buffers = [*map(Buffer, sources), out]
    launch("\n".join(body), *buffers, threads=n, perturb=perturb)
    out.check_written()
    return out.array


def same_bits(got, expected):
    expected = np.asarray(expected, got.dtype)
    size = got.dtype.itemsize
    wrong = (got.view(f"u{size}") != expected.view(f"u{size}")) & ~(
        (got != got) & (expected != expected)
    )
    assert not wrong.any(), (got[wrong], expected[wrong])


def u32(*values):
    return np.array([v & 0xFFFFFFFF for v in values], np.uint32)


INF, NAN = np.inf, np.nan
INTEGER_CASES = [
    ("add.s32 %y, %x0, %x1", u32(5, -1), u32(7, 1), u32(12, 0)),
    ("sub.s32 %y, %x0, %x1", u32(5, 0), u32(7, 1), u32(-2, -1)),
    ("mul.lo.s32 %y, %x0, %x1", u32(-3, 1 << 20), u32(7, 1 << 13), u32(-21, 1 << 33)),
    ("mul.hi.u32 %y, %x0, %x1", u32(0xFFFFFFFF, 3), u32(0xFFFFFFFF, 1), u32(0xFFFFFFFE, 0)),
    ("mul.hi.s32 %y, %x0, %x1", u32(-1, 1 << 30), u32(1, 8), u32(-1, 2)),
    ("mad.lo.s32 %y, %x0, %x1, 4", u32(2, -2), u32(3, 3), u32(10, -2)),
    ("div.s32 %y, %x0, %x1", u32(-7, 7), u32(2, -2), u32(-3, -3)),
    ("rem.s32 %y, %x0, %x1", u32(-7, 7), u32(2, -2), u32(-1, 1)),
    ("div.u32 %y, %x0, %x1", u32(-7, 7), u32(2, 2), u32(0x7FFFFFFC, 3)),
    ("min.s32 %y, %x0, %x1", u32(-7, 7), u32(2, 2), u32(-7, 2)),
    ("min.u32 %y, %x0, %x1", u32(-7, 7), u32(2, 2), u32(2, 2)),
    ("max.s32 %y, %x0, %x1", u32(-7, 7), u32(2, 2), u32(2, 7)),
    ("and.b32 %y, %x0, %x1", u32(12), u32(10), u32(8)),
    ("or.b32 %y, %x0, %x1", u32(12), u32(10), u32(14)),
    ("xor.b32 %y, %x0, %x1", u32(12), u32(10), u32(6)),
    ("not.b32 %y, %x0", u32(0), u32(0), u32(-1)),
    ("shl.b32 %y, %x0, %x1", u32(1, 1, 1), u32(31, 32, 200), u32(1 << 31, 0, 0)),
    ("shr.u32 %y, %x0, %x1", u32(-8, -8, -8), u32(1, 31, 32), u32(0x7FFFFFFC, 1, 0)),
    ("shr.s32 %y, %x0, %x1", u32(-8, -8, 8), u32(1, 40, 40), u32(-4, -1, 0)),
    ("bfe.u32 %y, %x0, %x1, 4", u32(0xABCD, 0xABCD), u32(4, 40), u32(0xC, 0)),
    ("bfe.s32 %y, %x0, %x1, 4", u32(0xABCD, 0x5BCD), u32(4, 12), u32(-4, 5)),
    ("bfi.b32 %y, %x0, %x1, 8, 4", u32(0xFF, 0), u32(0, -1), u32(0xF00, 0xFFFFF0FF)),
    ("prmt.b32 %y, %x0, %x1, 0x5410", u32(0x33221100), u32(0x77665544), u32(0x55441100)),
    ("prmt.b32 %y, %x0, %x1, 0xB321", u32(0x83221100), u32(0), u32(0xFF832211)),
    ("shf.l.wrap.b32 %y, %x0, %x1, 8", u32(0x12345678), u32(0x9ABCDEF0), u32(0xBCDEF012)),
    ("shf.r.wrap.b32 %y, %x0, %x1, 8", u32(0x12345678), u32(0x9ABCDEF0), u32(0xF0123456)),
    ("lop3.b32 %y, %x0, %x1, 0xFF, 0x96", u32(0xF0F0), u32(0xFF00), u32(0xF0F0 ^ 0xFF00 ^ 0xFF)),
    ("popc.b32 %y, %x0", u32(0xF0F1), u32(0), u32(9)),
    ("clz.b32 %y, %x0", u32(1, 0, -1), u32(0, 0, 0), u32(31, 32, 0)),
    ("setp.lt.s32 %a, %x0, %x1; selp.b32 %y, 1, 0, %a", u32(-1, 1), u32(0, 0), u32(1, 0)),
    ("setp.lo.u32 %a, %x0, %x1; selp.b32 %y, 1, 0, %a", u32(-1, 1), u32(0, 2), u32(0, 1)),
    ("setp.eq.s32 %a|%b, %x0, %x1; selp.b32 %y, 1, 0, %b", u32(1, 2), u32(1, 1), u32(0, 1)),
    (
        "setp.eq.s32 %a, %x0, 1; setp.gt.and.s32 %b, %x1, 4, !%a; selp.b32 %y, 1, 0, %b",
        u32(1, 2, 2),
        u32(5, 5, 4),
        u32(0, 1, 0),
    ),
    ("set.ne.u32.s32 %y, %x0, %x1", u32(1, 2), u32(1, 1), u32(0, -1)),
    ("cvt.s32.s8 %y, %x0; add.s32 %y, %y, %x1", u32(0x180, 0x7F), u32(0, 1), u32(-128, 128)),
    ("mov.b32 {%h0, %h1}, %x0; mov.b32 %y, {%h1, %h0}", u32(0x12345678), u32(0), u32(0x56781234)),
]


@pytest.mark.parametrize(("code", "a", "b", "expected"), INTEGER_CASES, ids=lambda v: str(v))
def test_integers(code, a, b, expected):
    same_bits(evaluate(code, np.uint32, a, b), expected)


def test_64_bit_products():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**64, (2, 50), np.uint64)
    high = [int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)]
    same_bits(evaluate("mul.hi.u64 %y, %x0, %x1", np.uint64, a, b), np.array(high, np.uint64))
    signed = [
        int(x) * int(y) >> 64 for x, y in zip(a.view(np.int64), b.view(np.int64), strict=True)
    ]
    got = evaluate("mul.hi.s64 %y, %x0, %x1", np.int64, a, b)
    same_bits(got, np.array(signed, np.int64))
    x, y = u32(-1, 1 << 31), u32(-1, 1 << 31)
    wide = evaluate("mul.wide.s32 %y, %x0, %x1", np.int64, x, y)
    same_bits(wide, np.array([1, 1 << 62]))
    same_bits(
        evaluate("mad.wide.u32 %y, %x0, %x1, 5", np.uint64, x, y),
        np.array([(2**32 - 1) ** 2 + 5, 2**62 + 5], np.uint64),
    )


def f32(*values):
    return np.array(values, np.float32)


FLOAT_CASES = [
    ("min.f32 %y, %x0, %x1", f32(NAN, 1, NAN), f32(1, NAN, NAN), f32(1, 1, NAN)),
    ("max.f32 %y, %x0, %x1", f32(NAN, 1, NAN), f32(1, NAN, NAN), f32(1, 1, NAN)),
    ("min.f32 %y, %x0, %x1", f32(-0.0, 0.0), f32(0.0, -0.0), f32(-0.0, -0.0)),
    ("max.f32 %y, %x0, %x1", f32(-0.0, 0.0), f32(0.0, -0.0), f32(0.0, 0.0)),
    ("max.NaN.f32 %y, %x0, %x1", f32(NAN, 1, 2), f32(1, NAN, 3), f32(NAN, NAN, 3)),
    ("abs.f32 %y, %x0", f32(-0.0, -INF), f32(0, 0), f32(0, INF)),
    ("neg.f32 %y, %x0", f32(0.0, -INF), f32(0, 0), f32(-0.0, INF)),
    ("copysign.f32 %y, %x0, %x1", f32(-0.0, 1), f32(3, -2), f32(-3, 2)),
    ("rcp.rn.f32 %y, %x0", f32(3, -0.0, INF), f32(0, 0, 0), f32(np.float32(1) / 3, -INF, 0)),
    ("sqrt.rn.f32 %y, %x0", f32(2, -0.0, -1), f32(0, 0, 0), f32(np.sqrt(np.float32(2)), -0.0, NAN)),
    ("div.rn.f32 %y, %x0, %x1", f32(1, 1), f32(3, 0), f32(np.float32(1) / 3, INF)),
    ("cvt.rni.f32.f32 %y, %x0", f32(2.5, 3.5, -0.4), f32(0, 0, 0), f32(2, 4, -0.0)),
    ("cvt.sat.f32.f32 %y, %x0", f32(-1, 0.5, 7, NAN), f32(0, 0, 0, 0), f32(0, 0.5, 1, 0)),
    ("setp.lt.f32 %a, %x0, %x1; selp.f32 %y, %x0, %x1, %a", f32(NAN, 1), f32(4, 4), f32(4, 1)),
    ("setp.geu.f32 %a, %x0, %x1; selp.f32 %y, %x0, %x1, %a", f32(NAN, 1), f32(4, 4), f32(NAN, 4)),
    ("setp.ne.f32 %a, %x0, %x0; selp.f32 %y, 1F, 2F, %a", f32(NAN), f32(0), f32(2)),
    ("setp.neu.f32 %a, %x0, %x0; selp.f32 %y, 1F, 2F, %a", f32(NAN), f32(0), f32(1)),
    ("setp.nan.f32 %a, %x0, %x1; selp.f32 %y, 1F, 2F, %a", f32(0), f32(NAN), f32(1)),
    ("cvt.f64.f32 %e0, %x0; cvt.rn.f32.f64 %y, %e0", f32(1e-42, 1.5), f32(0, 0), f32(1e-42, 1.5)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "a", "b", "expected"), FLOAT_CASES, ids=lambda v: str(v))
def test_floats(code, a, b, expected):
    code = code.replace("1F", "0f3F800000").replace("2F", "0f40000000")
    same_bits(evaluate(code, np.float32, a, b), expected)


def test_nan_of_float32_arithmetic_is_canonical():
    got = evaluate("sub.f32 %y, %x0, %x0", np.float32, f32(INF, NAN))
    assert (got.view(np.uint32) == 0x7FFFFFFF).all()


TO_INTEGER = [
    ("rni", [0.5, 1.5, -2.5, 3e9, -3e9, NAN], [0, 2, -2, 2**31 - 1, -(2**31), 0]),
    ("rzi", [0.9, -1.9, INF], [0, -1, 2**31 - 1]),
    ("rmi", [0.9, -1.1, -INF], [0, -2, -(2**31)]),
    ("rpi", [0.1, -1.9], [1, -1]),
]


@pytest.mark.parametrize(("rounding", "x", "expected"), TO_INTEGER)
def test_float_to_integer(rounding, x, expected):
    code = f"cvt.{rounding}.s32.f32 %y, %x0"
    same_bits(evaluate(code, np.int32, f32(*x)), np.array(expected))


def test_integer_to_float():
    x = np.array([2**24 + 1, -(2**24) - 1, 2**31 - 1, 16777219], np.int32)
    got = evaluate("cvt.rn.f32.s32 %y, %x0", np.float32, x)
    same_bits(got, f32(2**24, -(2**24), 2**31, 16777220))


def test_half_types():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2**32, 1000, np.uint32).view(np.float32)
    x[:8] = [1 + 2**-11, 1 + 3 * 2**-11, 65519, 65520, 2**-25, 1 + 2**-8, 1 + 3 * 2**-8, -0.0]
    for name, dtype in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        with np.errstate(all="ignore"):
            narrow = x.astype(dtype)
        got = evaluate(f"cvt.rn.{name}.f32 %y, %x0", dtype, x)
        same_bits(got, narrow)
        back = evaluate(f"cvt.f32.{name} %y, %x0", np.float32, narrow)
        same_bits(back, narrow.astype(np.float32))
        both = evaluate(f"cvt.rn.{name}x2.f32 %y, %x0, %x1", np.uint32, x, x[::-1].copy())
        halves = both.view(np.uint16).view(dtype).reshape(-1, 2)
        same_bits(halves[:, 1].copy(), narrow)
        same_bits(halves[:, 0].copy(), narrow[::-1].copy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype):
    """Against exact fractions, near ties and cancellation, in the subnormal range too."""
    rng = np.random.default_rng(2)
    n = 300
    a, b = rng.normal(0, 1, (2, n)).astype(dtype)
    scale = dtype(np.finfo(dtype).smallest_normal)
    with np.errstate(all="ignore"):
        c = np.where(np.arange(n) % 2, -(a * b), np.ldexp(dtype(1), np.arange(n) % 60 - 30) * a)
        c = c.astype(dtype)
        a[::3], c[::3] = a[::3] * scale, c[::3] * scale
    name = {4: "f32", 8: "f64"}[np.dtype(dtype).itemsize]
    got = evaluate(f"fma.rn.{name} %y, %x0, %x1, %x2", dtype, a, b, c)
    info = np.finfo(dtype)
    for x, y, z, r in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        mantissa = info.nmant + 1
        exponent = mp.frexp(mp.mpf(exact.numerator) / exact.denominator)[1] if exact else 0
        step = Fraction(2) ** max(exponent - mantissa, int(info.minexp) - int(info.nmant))
        assert abs(Fraction(r) - exact) <= step / 2, (x, y, z, r)
        if abs(Fraction(r) - exact) == step / 2:
            assert (Fraction(r) / step).numerator % 2 == 0 or (Fraction(r) / step).denominator != 1


def test_directed_fma_brackets_the_exact_value():
    rng = np.random.default_rng(3)
    a, b, c = rng.normal(0, 1, (3, 200)).astype(np.float32)
    down = evaluate("fma.rm.f32 %y, %x0, %x1, %x2", np.float32, a, b, c)
    up = evaluate("fma.rp.f32 %y, %x0, %x1, %x2", np.float32, a, b, c)
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    for low, high, value in zip(down.tolist(), up.tolist(), exact, strict=True):
        assert Fraction(low) <= value <= Fraction(high)
        assert low == high or np.nextafter(np.float32(low), np.float32(INF)) == high


@pytest.mark.parametrize("name", sorted(numerics.APPROXIMATIONS))
def test_approximations_stay_within_their_bound(name):
    about = numerics.APPROXIMATIONS[name]
    x = np.abs(np.random.default_rng(4).normal(0, 2, 500)).astype(np.float32) + np.float32(0.01)
    operands = (x, x[::-1].copy()) if name == "div" else (x,)
    given = ", ".join(f"%x{i}" for i in range(len(operands)))
    exact = about.function(*(v.astype(np.float64) for v in operands))
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    bound = np.maximum(np.abs(exact) * about.relative, 2.0**-22 if about.absolute else 0)
    plain = evaluate(f"{name}.approx.f32 %y, {given}", np.float32, *operands)
    assert (np.abs(plain - exact) <= spacing / 2 * 1.001).all()
    moved = evaluate(f"{name}.approx.f32 %y, {given}", np.float32, *operands, perturb=5)
    assert (np.abs(moved - exact) <= bound + spacing / 2 * 1.001).all()
    assert (moved != plain).any()


def test_ftz_flushes_operand_and_result():
    got = evaluate("rcp.approx.ftz.f32 %y, %x0", np.float32, f32(1e-40, 3e38, -3e38))
    same_bits(got, f32(INF, 0, -0.0))


# -- control -------------------------------------------------------------------------------------


def test_divergent_loops_come_together():
    """Each thread runs its own number of rounds; a shuffle behind the loop sees all lanes."""
    out = Buffer(np.zeros(64, np.uint32), "out")
    launch(
        """mov.u32 %r0, 0; mov.u32 %r1, 0;
        LOOP: setp.gt.u32 %q0, %r0, %t; @%q0 bra DONE;
        add.u32 %r1, %r1, %r0; add.u32 %r0, %r0, 1; bra.uni LOOP;
        DONE: shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;"""
        + at("%p0", 4)
        + "st.global.u32 [%d15], %r2;",
        out,
        threads=64,
    )
    t = np.arange(64) ^ 1
    assert (out.array == t * (t + 1) // 2).all()


def test_guarded_instructions_and_early_exit():
    out = Buffer(np.full(96, 7, np.uint32), "inout")
    launch(
        "setp.lt.u32 %q0, %g, 40; mov.u32 %r0, 1; @%q0 mov.u32 %r0, 2; @!%q0 add.u32 %r0, %r0, 4;"
        "setp.ge.u32 %q1, %g, 90; @%q1 ret;" + at("%p0", 4) + "st.global.u32 [%d15], %r0;",
        out,
        threads=32,
        blocks=3,
    )
    i = np.arange(96)
    assert (out.array == np.where(i < 40, 2, np.where(i < 90, 5, 7))).all()


FUNCTION = """
.func (.param .b32 result) twice(.param .b32 x, .param .b32 limit)
{ .reg .b32 %r<4>; .reg .pred %q<2>;
  ld.param.u32 %r0, [x]; ld.param.u32 %r1, [limit];
  setp.ge.u32 %q0, %r0, %r1; @%q0 bra BIG;
  add.u32 %r2, %r0, %r0; st.param.b32 [result], %r2; ret;
  BIG: st.param.b32 [result], %r1; ret; }
.func (.param .b32 result) fourfold(.param .b32 x)
{ .reg .b32 %r<4>;
  ld.param.u32 %r0, [x];
  { .param .b32 a; .param .b32 b; .param .b32 back;
    st.param.b32 [a], %r0; st.param.b32 [b], 100;
    call.uni (back), twice, (a, b); ld.param.b32 %r1, [back]; }
  { .param .b32 a; .param .b32 b; .param .b32 back;
    st.param.b32 [a], %r1; st.param.b32 [b], 100;
    call.uni (back), twice, (a, b); ld.param.b32 %r1, [back]; }
  st.param.b32 [result], %r1; ret; }
"""


def test_calls():
    out = Buffer(np.zeros(64, np.uint32), "out")
    launch(
        """{ .param .b32 a; .param .b32 back; st.param.b32 [a], %t;
        call.uni (back), fourfold, (a); ld.param.b32 %r5, [back]; }"""
        + at("%p0", 4)
        + "st.global.u32 [%d15], %r5;",
        out,
        threads=64,
        outside=FUNCTION,
    )
    i = np.arange(64)
    assert (out.array == np.where(i < 50, 4 * i, 100)).all()


@pytest.mark.parametrize("together", [None, 1])
def test_shared_memory_and_barrier(together):
    """Each block reverses its elements through shared memory."""
    x = np.arange(192, dtype=np.float32)
    out = Buffer(np.zeros(192, np.float32), "out")
    launch(
        at("%p0", 4) + "ld.global.f32 %f0, [%d15]; mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0;"
        "st.shared.f32 [%r1], %f0; bar.sync 0; sub.u32 %r2, 63, %t; mad.lo.u32 %r2, %r2, 4, %r0;"
        "ld.shared.f32 %f1, [%r2];" + at("%p1", 4) + "st.global.f32 [%d15], %f1;",
        Buffer(x),
        out,
        threads=64,
        blocks=3,
        outside=".shared .align 4 .b8 tile[256];",
        together=together,
    )
    assert (out.array.reshape(3, 64) == x.reshape(3, 64)[:, ::-1]).all()


def test_dynamic_shared_memory_through_a_generic_address():
    out = Buffer(np.zeros(32, np.uint32), "out")
    code = (
        "mov.u64 %d0, room; cvta.shared.u64 %d1, %d0;"
        + at("%d1", 4, "%t", "%d2")
        + "st.u32 [%d2], %t;"
        "bar.sync 0; cvta.to.shared.u64 %d3, %d1; ld.shared.u32 %r0, [%d3+20];"
        + at("%p0", 4)
        + "st.global.u32 [%d15], %r0;"
    )
    outside = ".extern .shared .align 16 .b8 room[];"
    launch(code, out, outside=outside, shared=128)
    assert (out.array == 5).all()
    with pytest.raises(OutOfBounds, match="shared"):
        launch(code, out, outside=outside, shared=64)


SHUFFLES = {
    "shfl.sync.up.b32 %r1, %t, 3, 0, -1": lambda i: np.where(i >= 3, i - 3, i),
    "shfl.sync.down.b32 %r1, %t, 3, 31, -1": lambda i: np.where(i + 3 < 32, i + 3, i),
    "shfl.sync.bfly.b32 %r1, %t, 5, 31, -1": lambda i: i ^ 5,
    "shfl.sync.idx.b32 %r1, %t, 7, 31, -1": lambda i: 0 * i + 7,
    # segments of 8 lanes: c = (32 - 8) << 8 | 7
    "shfl.sync.down.b32 %r1, %t, 3, 0x1807, -1": lambda i: np.where(i % 8 < 5, i + 3, i),
    "shfl.sync.idx.b32 %r1, %t, 2, 0x181F, -1": lambda i: i // 8 * 8 + 2,
    "shfl.sync.bfly.b32 %r0|%q0, %t, 1, 31, -1; selp.u32 %r1, %r0, 0, %q0": lambda i: i ^ 1,
    "setp.gt.u32 %q0, %t, 9; vote.sync.ballot.b32 %r1, %q0, -1": lambda i: 0 * i + 0xFFFFFC00,
    "setp.gt.u32 %q0, %t, 9; vote.sync.any.pred %q1, %q0, -1; selp.u32 %r1, 1, 0, %q1": (
        lambda i: 0 * i + 1
    ),
    "activemask.b32 %r1": lambda i: 0 * i + 0xFFFFFFFF,
}


@pytest.mark.parametrize("code", SHUFFLES)
def test_warp_instructions(code):
    out = Buffer(np.zeros(32, np.uint32), "out")
    launch(code + ";" + at("%p0", 4) + "st.global.u32 [%d15], %r1;", out)
    assert (out.array == SHUFFLES[code](np.arange(32))).all()


def test_vector_accesses_and_what_moved():
    x = np.arange(256, dtype=np.float32)
    out = Buffer(np.zeros(256, np.float32), "out")
    machine = launch(
        at("%p0", 16)
        + "ld.global.nc.v4.f32 {%f0, %f1, %f2, %f3}, [%d15];"
        + at("%p1", 16)
        + "st.global.v2.f32 [%d15], {%f3, %f2}; st.global.v2.f32 [%d15+8], {%f1, %f0};",
        Buffer(x),
        out,
        threads=64,
    )
    assert (out.array.reshape(-1, 4) == x.reshape(-1, 4)[:, ::-1]).all()
    assert machine.memory.traffic == {("load", 16): 1024, ("store", 8): 1024}
    assert (out.write_counts() == 1).all()


def test_atomics_and_constants():
    table = ".const .align 4 .u32 step[2] = {3, 5};"
    total = Buffer(np.array([10], np.uint32), "inout")
    out = Buffer(np.zeros(64, np.uint32), "out")
    launch(
        "ld.const.u32 %r0, [step+4]; atom.global.add.u32 %r1, [%p0], %r0;"
        "red.global.add.u32 [%p0], 1;" + at("%p1", 4) + "st.global.u32 [%d15], %r1;",
        total,
        out,
        threads=64,
        outside=table,
    )
    assert total.array == 10 + 64 * 6
    assert (np.sort(out.array) == 10 + 5 * np.arange(64)).all()


# -- every detector fires ------------------------------------------------------------------------

STORE = "st.global.u32 [%d15], %t;"


def test_store_past_the_end():
    with pytest.raises(OutOfBounds, match=r"byte 124 .* 124 bytes.*st\.global"):
        launch(at("%p0", 4) + STORE, Buffer(np.zeros(31, np.uint32), "out"))


def test_load_before_the_start():
    code = at("%p0", 4) + "ld.global.u32 %r0, [%d15+-4];"
    with pytest.raises(OutOfBounds, match="byte -4 "):
        launch(code, Buffer(np.zeros(32, np.uint32)))


def test_misaligned_vector():
    code = "ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%p0];"
    launch(code, Buffer(np.zeros(8, np.float32), lead=16))
    with pytest.raises(Misaligned, match="16-byte"):
        launch(code, Buffer(np.zeros(8, np.float32), lead=4))


def test_uninitialised_register():
    with pytest.raises(Uninitialised, match="%r3"):
        launch("add.u32 %r2, %r3, 1;", Buffer(np.zeros(1)))
    # written by some threads only
    with pytest.raises(Uninitialised, match="%r3"):
        launch(
            "setp.lt.u32 %q0, %t, 9; @%q0 mov.u32 %r3, 1; add.u32 %r2, %r3, 1;", Buffer(np.zeros(1))
        )


def test_uninitialised_memory():
    with pytest.raises(Uninitialised, match="never written"):
        launch("ld.global.u32 %r0, [%p0];", Buffer(np.zeros(1, np.uint32), "out"))
    with pytest.raises(Uninitialised, match="shared"):
        launch("mov.u32 %r0, s; ld.shared.u32 %r1, [%r0];", outside=".shared .u32 s;")


def test_store_into_an_input():
    with pytest.raises(ReadOnly):
        launch(at("%p0", 4) + STORE, Buffer(np.zeros(32, np.uint32)))


def test_unwritten_and_overwritten_outputs():
    out = Buffer(np.zeros(40, np.uint32), "out")
    launch(at("%p0", 4) + STORE, out)
    with pytest.raises(Unwritten, match=r"element \(32,\) of \(40,\) was not written \(8 in all\)"):
        out.check_written()
    out.check_written(np.arange(40) < 32)
    with pytest.raises(Unwritten, match=r"element \(31,\).*must not be"):
        out.check_written(np.arange(40) < 31)
    launch(at("%p0", 4) + STORE + STORE, again := Buffer(np.zeros(32, np.uint32), "out"))
    assert (again.write_counts() == 2).all()


SHARED = ".shared .align 4 .b8 s[512];"
MINE = "mov.u32 %r0, s; mad.lo.u32 %r1, %t, 4, %r0;"
NEXT = "xor.b32 %r2, %t, {0}; mad.lo.u32 %r2, %r2, 4, %r0;"
RACES = {
    "read after another's write": "st.shared.u32 [%r1], %t; {0} ld.shared.u32 %r3, [%r2];",
    "write after another's read": (
        "st.shared.u32 [%r1], %t; bar.sync 0;ld.shared.u32 %r3, [%r2]; {0} st.shared.u32 [%r1], %t;"
    ),
    "write after another's write": "st.shared.u32 [%r1], %t; {0} st.shared.u32 [%r2], %t;",
    "write after the read of many": (
        "setp.eq.u32 %q0, %t, 0; @%q0 st.shared.u32 [%r0], 1; bar.sync 0;"
        "ld.shared.u32 %r3, [%r0]; {0} @%q0 st.shared.u32 [%r0], 2;"
    ),
}


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize(
    ("distance", "barrier", "fine"),
    [
        (1, "", False),
        (1, "bar.warp.sync -1;", True),
        (1, "bar.sync 0;", True),
        (32, "bar.warp.sync -1;", False),
        (32, "bar.sync 0;", True),
    ],
)
def test_races(race, distance, barrier, fine):
    threads = 64 if distance == 32 else 32
    code = MINE + NEXT.format(distance) + RACES[race].format(barrier)
    if fine:
        launch(code, outside=SHARED, threads=threads)
        return
    with pytest.raises(Race):
        launch(code, outside=SHARED, threads=threads)


def test_all_threads_storing_to_one_byte():
    with pytest.raises(Race, match="at once"):
        launch("mov.u32 %r0, s; st.shared.u32 [%r0], %t;", outside=SHARED)


def test_barrier_in_one_branch():
    with pytest.raises(BarrierFault, match="left before"):
        launch("setp.lt.u32 %q0, %t, 8; @%q0 ret; bar.sync 0;")
    with pytest.raises(BarrierFault, match="several barriers"):
        launch(
            "setp.lt.u32 %q0, %t, 8; @%q0 bra A; bar.sync 0; bra.uni B; A: bar.sync 0; B: "
            "mov.u32 %r0, 1;"
        )


def test_shuffle_in_one_branch():
    with pytest.raises(ShuffleFault, match="does not take part"):
        launch("setp.lt.u32 %q0, %t, 8; @%q0 bra A; shfl.sync.bfly.b32 %r0, %t, 1, 31, -1; A: ")
    with pytest.raises(ShuffleFault, match="does not name"):
        launch("shfl.sync.bfly.b32 %r0, %t, 1, 31, 0xFF;")
    # the lanes of the mask alone, among themselves
    launch("setp.gt.u32 %q0, %t, 7; @%q0 ret; shfl.sync.bfly.b32 %r0, %t, 1, 31, 0xFF;")
    with pytest.raises(ShuffleFault, match="reads a lane"):
        launch("setp.gt.u32 %q0, %t, 7; @%q0 ret; shfl.sync.bfly.b32 %r0, %t, 8, 31, 0xFF;")


UNKNOWN = [
    "wgmma.fence;",
    "add.ftz.f32 %f0, 0f00000000, 0f00000000;",
    "add.rz.f32 %f0, 0f00000000, 0f00000000;",
    "div.f32 %f0, 0f00000000, 0f3F800000;",
    "add.f32 %f0, 1, 2;",
    "add.f32 %f0, 0d0000000000000000, 0f00000000;",
    "cvt.rz.f32.f64 %f0, 0d3FF0000000000000;",
    "ld.global.whatever.u32 %r0, [%p0];",
    "mov.u64 %d0, nowhere;",
    "mov.u64 %r0, 1;",
    "bar.sync 1;",
    "st.local.u32 [%p0], 1;",
    ".local .align 4 .b8 depot[16];",
]


@pytest.mark.parametrize("code", UNKNOWN)
def test_unknown_instructions(code):
    with pytest.raises(UnknownInstruction):
        launch(code, Buffer(np.zeros(4)))


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="1 arguments for 2 parameters"):
        Machine(kernel("", 2)).launch(1, 32, [Buffer(np.zeros(1))])
    with pytest.raises(ValueError, match="role"):
        Buffer(np.zeros(1), "output")
    assert parse(kernel("", 2)).target == "sm_90"
