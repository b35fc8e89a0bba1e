"""fastact.torch on CUDA tensors: what runs are the CUDA kernels of its operators, interpreted."""

import gpu
import numpy as np
import ops
import pytest
import samples

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ft = pytest.importorskip("fastact.torch", reason="PyTorch is not installed")

from cuda_tensors import DEVICE, STREAM, cpu, cuda, cuda_tensors, grad  # noqa: E402, F401
from executing import executing  # noqa: E402, F401

from fastact.interop.second import SECOND  # noqa: E402
from fastact.interop.torch.operators import Numpy, evaluated  # noqa: E402
from fastact.interop.torch.tensors import array_of  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="a build for CUDA: ci/gpu.py"),
]
on_gpu = pytest.mark.usefixtures("cuda_tensors")
# Ops with none, one and two parameters: a kernel is compiled for each dtype and direction.
PROBES = [
    ("sigmoid", "float16"),
    ("gelu_quick", "float32"),
    ("threshold", "bfloat16"),
    ("sigmoid", "float64"),
]
EVERY = [(op.name, d) for op in samples.ELEMENTWISE for d in ("float16", "float32", "float64")]


def random(*shape, dtype="float32", seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (2 * x).to(getattr(torch, dtype))


def names():
    """Every operator."""
    every = torch._C._dispatch_get_all_op_names()
    return sorted(n for n in every if n.startswith("fastact::"))


def compare(got, right, ulp):
    """Results on the GPU against the CPU's, in units of the largest entry's last place."""
    assert len(got) == len(right)
    for mine, exact in zip(got, right, strict=True):
        if exact is None:
            assert mine is None
            continue
        found = cpu(mine.detach())
        assert found.dtype == exact.dtype and found.shape == exact.shape
        if not ulp:
            ops.assert_same_bits(array_of(found), array_of(exact.detach()))
            continue
        tolerance = ulp * torch.finfo(exact.dtype).eps
        scale = max(1.0, float(exact.detach().abs().max()) if exact.numel() else 0.0)
        torch.testing.assert_close(
            found, exact.detach(), rtol=tolerance, atol=tolerance * scale, equal_nan=True
        )


def check(f, *tensors, ulp=0, twice=False, wanted=None):
    """A function and its derivatives on CUDA tensors are those on the CPU's.

    `wanted`: which tensors have a gradient; by default, all of them.
    """
    wanted = range(len(tensors)) if wanted is None else wanted

    def run(place, differentiate):
        leaves = [place(t) for t in tensors]
        plain = f(*leaves)
        leaves = [t.requires_grad_(k in wanted) for k, t in enumerate(leaves)]
        y = f(*leaves)
        assert y.requires_grad and not plain.requires_grad
        dy = place(random(*y.shape, dtype=str(y.dtype).removeprefix("torch."), seed=5))
        chosen = [leaves[k] for k in wanted]
        found = differentiate(y, chosen, dy.requires_grad_(twice), create_graph=twice)
        made = [plain, y, *found]
        if twice:
            v = [place(random(*g.shape, dtype="float64", seed=7).to(g.dtype)) for g in found]
            made += differentiate(found, [*chosen, dy], v, allow_unused=True)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", REAL_GRAD)
        right = run(lambda t: t.detach().clone(memory_format=torch.preserve_format), REAL_GRAD)
    got = run(lambda t: cuda(t.detach()), grad)
    compare(got, right, ulp)
    if got[0].shape == tensors[0].shape:
        assert got[0].stride() == torch.empty_like(tensors[0]).stride()


REAL_GRAD = torch.autograd.grad


def test_every_operator_has_a_kernel_for_cuda():
    assert len(names()) > 100
    for name in names():
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"), name
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"), name


@on_gpu
@pytest.mark.parametrize(("name", "dtype"), PROBES + EVERY * gpu.FULL)
def test_elementwise(name, dtype, cuda_tensors):  # noqa: F811
    f, op = getattr(ft, name), samples.elementwise()[name]
    x = random(3, 4, dtype=dtype)
    if name == "logit":
        x = x.abs() / 16
    check(f, x)
    check(lambda t: f(t, *samples.other_parameters(op)), x.t())
    assert {launched.stream for launched in cuda_tensors.launches} == {STREAM}


@on_gpu
def test_layouts():
    x = random(4, 3, 2)
    for t in (x.permute(2, 0, 1), x[::2, 1:], x[:1].expand(3, 3, 2), x[0, 0, 0], x[:0]):
        check(ft.gelu_quick, t)
    parameter = torch.nn.Parameter(cuda(x))
    compare([ft.gelu_quick(parameter)], [ft.gelu_quick(x)], 0)
    compare([ft.relu(cuda(torch.arange(-2, 3)))], [ft.relu(torch.arange(-2, 3))], 0)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_of_tensors(name):
    """They are written for NumPy's functions; PyTorch's are as good."""
    op = samples.elementwise()[name]
    for parameters in ((), samples.other_parameters(op)):
        x = samples.smooth_points(op, 25, parameters or op.record.defaults)
        x = torch.from_numpy(np.append(x, np.nan))
        got = evaluated(op, x, parameters, Numpy(x))
        right = op.second(x.numpy(), *parameters)
        np.testing.assert_allclose(got.numpy(), right, rtol=1e-14, atol=1e-15)


@on_gpu
@pytest.mark.parametrize("name", ["hard_swish", "gelu_tanh", "mish"])
def test_elementwise_twice(name):
    check(getattr(ft, name), random(3, 4), ulp=4, twice=True)


@on_gpu
@pytest.mark.parametrize(
    ("name", "twice"), [("softmax", True), ("logsumexp", True), ("sparsemax", False)]
)
def test_rows(name, twice):
    f = getattr(ft, name)
    for dim in (0, -1):
        check(lambda t: f(t, dim), random(3, 5), ulp=8, twice=twice)  # noqa: B023
    check(lambda t: f(t, 1), random(2, 3, 2, dtype="bfloat16").permute(2, 0, 1), ulp=2)


@on_gpu
@pytest.mark.parametrize(
    ("name", "given", "numbers"),
    [
        ("swiglu", [(4, 6), (6,)], ()),
        ("bias_swish", [(4, 6), (6,)], (1.5,)),
        ("prelu", [(2, 3, 4), (3, 1)], ()),
        ("glu", [(4, 6)], (0,)),
        ("causal_softmax", [(4, 6)], (1,)),
        ("maxout", [(4, 6)], (2, 0)),
    ],
)
def test_fused(name, given, numbers):
    tensors = [random(*shape, seed=k) for k, shape in enumerate(given)]

    def f(*t):
        return getattr(ft, name)(*t, *numbers)

    check(f, *tensors, ulp=16, twice=True)
    if len(tensors) > 1:
        check(f, *tensors, ulp=16, wanted=(1,))


@on_gpu
@pytest.mark.parametrize(("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id)
def test_losses(loss, x, target, options):
    target, x = torch.tensor(target), torch.tensor(x)
    named = {"dim" if n == "axis" else n: v for n, v in options.items()}

    def f(logits, labels, *weights):
        arrays = dict(zip((n for n in named if n in loss.arrays), weights, strict=True))
        return getattr(ft, loss.name)(logits, labels, **named | arrays)

    weights = [torch.tensor(v.copy()) for n, v in named.items() if n in loss.arrays]
    check(f, x, target, *weights, ulp=16, wanted=(0,))
    check(f, x, target, *weights, ulp=64, wanted=(0,), twice=True)


@on_gpu
def test_gradient_of_a_target():
    logits, target = torch.tensor(samples.LOSSES[-1][1]), torch.tensor(samples.LOSSES[-1][2])
    check(ft.sigmoid_cross_entropy, logits, target, ulp=16)


@on_gpu
def test_transforms():
    """vmap and forward mode, of ops and of what they are composed of."""
    x, t = random(4, 6, dtype="float64"), random(4, 6, dtype="float64", seed=1)
    labels = torch.tensor([0, 5, 1, 2])

    def loss(logits):
        return ft.softmax_cross_entropy(logits, labels.to(logits.device), label_smoothing=0.1)

    for f in (ft.swish, ft.softmax, ft.logsumexp, ft.causal_softmax, ft.glu):
        right = torch.func.jvp(f, (x,), (t,))
        compare(torch.func.jvp(f, (cuda(x),), (cuda(t),)), right, 16)
    for f in (ft.swish, ft.softmax, ft.glu):
        compare([torch.func.vmap(f)(cuda(x))], [torch.func.vmap(f)(x)], 16)


@on_gpu
def test_autocast():
    """The cheap dtype goes through."""
    x, w = random(3, 4), random(4, 2)
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        y = ft.swish(cuda(x) @ cuda(w))
    finally:
        torch.set_autocast_enabled("cuda", False)
    compare([y], [ft.swish(x.bfloat16() @ w.bfloat16())], 0)


@on_gpu
def test_accelerated_model():
    def model(place):
        made = torch.nn.Sequential(
            torch.nn.PReLU(4), torch.nn.SiLU(), torch.nn.GLU(), torch.nn.Softmax(1)
        )
        made[0].weight = torch.nn.Parameter(place(torch.tensor([0.1, 0.2, 0.3, 0.4])))
        assert len(ft.accelerate(made).swapped) == 4
        return made

    x = random(3, 4)
    theirs, ours = model(torch.clone), model(cuda)
    right, got = theirs(x), ours(cuda(x))
    dy = torch.ones_like(right)
    compare(
        [got, *grad(got, list(ours.parameters()), cuda(dy))],
        [right, *REAL_GRAD(right, list(theirs.parameters()), dy)],
        8,
    )


@on_gpu
@pytest.mark.parametrize(
    "call",
    [
        lambda here, there: ft.swiglu(here, there),
        lambda here, there: ft.swiglu(there, here),
        lambda here, there: torch.ops.fastact.swish_backward(here, there),
        lambda here, there: torch.ops.fastact.swish_double_backward(here, there, there),
        lambda here, there: ft.sigmoid_cross_entropy(there, here),
        lambda here, there: ft.sigmoid_cross_entropy(there, there, pos_weight=here),
    ],
)
def test_tensors_of_two_devices(call):
    words = "all tensors must be on one device: .* on (cpu, .* on cuda:0|cuda:0, .* on cpu)"
    with pytest.raises(ValueError, match=words):
        call(random(3, 4), cuda(random(3, 4)))


def arguments_of(schema):
    """Tensors and numbers for an operator, by the words of its schema."""
    like = {"labels": (2,), "weight": (4,), "pos_weight": (4,), "groups": 2, "dim": -1}
    like |= {"reduction": "mean", "ignore_index": None, "offset": 0, "label_smoothing": 0.1}
    reduces = schema.name.removesuffix("_backward").endswith(("logsumexp",))
    found = []
    for a in schema.arguments:
        given = like.get(a.name, (2, 4))
        if a.name == "dy" and reduces:
            given = (2,)
        elif a.name == "dy" and schema.name.startswith(("fastact::maxout", "fastact::glu")):
            given = (2, 2)
        if "Tensor" not in str(a.type):
            found.append(a.default_value if a.has_default_value() and a.name != "dim" else given)
        elif a.name == "labels":
            found.append(torch.zeros(given, dtype=torch.int64, device=DEVICE))
        else:
            found.append(torch.empty(given, device=DEVICE))
    return found


def test_fake_kernels_stay_on_the_device():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        for name in names():
            operator = getattr(torch.ops.fastact, name.partition("::")[2]).default
            made = operator(*arguments_of(operator._schema))
            for y in made if isinstance(made, tuple) else (made,):
                assert y.device == DEVICE, name
        with pytest.raises(ValueError, match="dy on cpu, x on cuda:0"):
            torch.ops.fastact.swish_backward(torch.empty(3), torch.empty(3, device="cuda"))


def test_traced():
    """What torch.compile makes of a function of CUDA tensors: operators, all on the device."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    def f(x, labels):
        y = ft.softmax(ft.swiglu(ft.causal_softmax(x), x), 0)
        return ft.softmax_cross_entropy(y, labels)

    with FakeTensorMode():
        given = torch.empty(3, 4, device="cuda"), torch.zeros(3, dtype=torch.int64, device="cuda")
        graph = make_fx(f)(*given)
    made = [n for n in graph.graph.nodes if "fastact" in str(n.target)]
    assert len(made) == 4
    for node in made:
        values = node.meta["val"]
        for y in values if isinstance(values, tuple) else (values,):
            assert y.device == DEVICE
