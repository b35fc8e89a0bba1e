"""Gates, biases, prelu, causal_softmax, maxout and the losses of fastact.torch."""

import numpy as np
import ops
import pytest
import samples

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ft = pytest.importorskip("fastact.torch", reason="PyTorch is not installed")

from fastact.interop.torch.losses import names_of  # noqa: E402
from fastact.interop.torch.tensors import array_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
F = torch.nn.functional
fused = pytest.mark.parametrize(("op", "arrays", "numbers"), samples.FUSED, ids=samples.case_id)
losses = pytest.mark.parametrize(
    ("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id
)


def tensors(arrays, dtype="float64"):
    return [torch.tensor(a, dtype=getattr(torch, dtype)) for a in arrays]


def leaves(arrays, dtype="float64"):
    return [t.requires_grad_() for t in tensors(arrays, dtype)]


def in_torch(options):
    """The options of a loss, as fastact.torch takes them."""
    named = {"dim" if n == "axis" else n: v for n, v in options.items()}
    return {n: torch.tensor(v.copy()) if isinstance(v, np.ndarray) else v for n, v in named.items()}


@fused
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_and_gradients_are_those_of_the_array_functions(op, arrays, numbers, dtype):
    f = getattr(ft, op.name)
    given = leaves(arrays, dtype)
    expected = op.forward(*map(array_of, given), *numbers)
    y = f(*given, *numbers)
    ops.assert_same_bits(array_of(y), expected)
    ops.assert_same_bits(array_of(f(*tensors(arrays, dtype), *numbers)), expected)
    dy = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y.dtype)
    y.backward(dy)
    partials = op.backward(array_of(dy), *map(array_of, given), *numbers)
    for leaf, partial in zip(given, partials, strict=True):
        summed = torch.from_numpy(np.asarray(partial, np.float64)).sum_to_size(leaf.shape)
        tolerance = 4 * torch.finfo(y.dtype).eps
        torch.testing.assert_close(leaf.grad.double(), summed, rtol=tolerance, atol=tolerance)
    flipped = [t.detach().flip(-1) for t in given]
    strided = [t.mT.contiguous().mT if t.dim() > 1 else t for t in flipped]
    ops.assert_same_bits(array_of(f(*strided, *numbers)), array_of(f(*flipped, *numbers)))


@fused
def test_gradcheck(op, arrays, numbers):
    def f(*given):
        return getattr(ft, op.name)(*given, *numbers)

    torch.autograd.gradcheck(f, leaves(arrays), check_forward_ad=True)
    torch.autograd.gradgradcheck(f, leaves(arrays))
    if op.name in ("swiglu", "prelu", "glu"):  # the operator's own formulas
        operator = getattr(torch.ops.fastact, op.name).default
        torch.autograd.gradgradcheck(lambda *given: operator(*given, *numbers), leaves(arrays))


@fused
def test_opcheck(op, arrays, numbers):
    y = op.forward(*arrays, *numbers)
    for name, given in (
        (op.name, leaves(arrays)),
        (f"{op.name}_backward", tensors([np.ones_like(y), *arrays])),
    ):
        operator = getattr(torch.ops.fastact, name).default
        found = torch.library.opcheck(operator, (*given, *numbers))
        assert set(found.values()) == {"SUCCESS"}


@fused
def test_a_jacobian_in_one_backward_pass(op, arrays, numbers):
    """autograd's own vmap, over a batch of gradients."""
    jacobian = torch.autograd.functional.jacobian

    def f(*given):
        return getattr(ft, op.name)(*given, *numbers)

    given = tuple(tensors(arrays))
    for got, right in zip(jacobian(f, given, vectorize=True), jacobian(f, given), strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("f", [ft.swiglu, ft.bias_gelu, ft.prelu, torch.ops.fastact.swiglu])
def test_an_array_made_from_the_other(f):
    """Its partial is counted once, whichever way a gradient takes."""
    jacobian = torch.autograd.functional.jacobian

    def both(t):
        return f(t, 2 * t)

    x = torch.tensor(samples.FUSED[0][1][0])
    right = jacobian(both, x)
    torch.testing.assert_close(jacobian(both, x, create_graph=True).detach(), right)
    torch.testing.assert_close(jacobian(both, x, vectorize=True), right)
    torch.autograd.gradgradcheck(both, x.requires_grad_())


def test_causal_softmax_keeps_its_output():
    """As PyTorch's softmax does: the input can be freed, or is another op's to keep."""
    x = torch.tensor(samples.FUSED[0][1][0]).requires_grad_()
    for f in (ft.causal_softmax, torch.ops.fastact.causal_softmax.default):
        y = f(x, 1)
        (saved,) = y.grad_fn.saved_tensors
        assert saved.data_ptr() == y.data_ptr()


def test_pytorchs_own():
    x = torch.tensor(samples.FUSED[0][1][0])
    torch.testing.assert_close(ft.glu(x), F.glu(x))
    w = torch.tensor([0.3], dtype=x.dtype)
    torch.testing.assert_close(ft.prelu(x, w), F.prelu(x, w))
    mask = torch.ones(4, 6, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ft.causal_softmax(x), x.masked_fill(mask, -np.inf).softmax(-1))
    mixed = ft.swiglu(x.float(), x)
    assert mixed.dtype == torch.float64


@losses
def test_losses(loss, x, target, options):
    f, named = getattr(ft, loss.name), in_torch(options)
    (logits,) = leaves([x])
    q = torch.tensor(target)
    expected, gradient = loss.value_and_grad(x, target, **options)
    value = f(logits, q, **named)
    ops.assert_same_bits(array_of(value), np.asarray(expected))
    ops.assert_same_bits(array_of(f(logits.detach(), q, **named)), np.asarray(expected))
    value.sum().backward()
    ops.assert_same_bits(array_of(logits.grad), gradient)
    torch.autograd.gradcheck(lambda t: f(t, q, **named), logits, check_forward_ad=True)
    torch.autograd.gradgradcheck(lambda t: f(t, q, **named), logits)
    if q.is_floating_point():
        torch.autograd.gradcheck(
            lambda t, p: f(t, p, **named), (logits, q.clone().requires_grad_())
        )


@losses
def test_opcheck_of_losses(loss, x, target, options):
    named = in_torch(
        dict(zip((n for n, _ in loss.signature[2:]), DEFAULTS[loss.name], strict=True)) | options
    )
    logits, q = leaves([x])[0], torch.tensor(target)
    given = (logits, q, *(named[n] for n in names_of(loss.name)[2:]))
    operator = getattr(torch.ops.fastact, f"{loss.name}_value_and_grad").default
    assert set(torch.library.opcheck(operator, given).values()) == {"SUCCESS"}


DEFAULTS = {
    "softmax_cross_entropy": (-1, None, None, 0.0, "mean"),
    "sigmoid_cross_entropy": (None, None, "mean"),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_pytorchs(reduction, dtype):
    x = torch.tensor(samples.LOSSES[0][1], dtype=dtype).requires_grad_()
    labels, weight = torch.tensor([0, 5, -100, 2]), torch.linspace(0.5, 2, 6, dtype=dtype)
    given = {"label_smoothing": 0.2, "reduction": reduction, "weight": weight}
    theirs = F.cross_entropy(x, labels, ignore_index=-100, **given)
    ours = ft.softmax_cross_entropy(x, labels, ignore_index=-100, **given)
    torch.testing.assert_close(ours, theirs)
    dy = torch.full_like(theirs, 0.5)
    (expected,) = torch.autograd.grad(theirs, x, dy)
    torch.testing.assert_close(torch.autograd.grad(ours, x, dy)[0], expected)


def step(x, labels):
    y = ft.swiglu(ft.mish(2 * x), x) + ft.bias_gelu(x, x[0])
    return ft.softmax_cross_entropy(y, labels, label_smoothing=0.1)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled(backend):
    """One graph, the same numbers, forward and backward; by the default backend too."""
    x = torch.tensor(samples.FUSED[0][1][0], dtype=torch.float32).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3])
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    with torch._inductor.config.patch(compile_threads=1):
        value = compiled(x, labels)
        (found,) = torch.autograd.grad(value, x)
    expected = step(x, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(found, torch.autograd.grad(expected, x)[0])
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, labels), expected)


def test_transforms():
    """A batch, a derivative per sample and a Hessian go through the compositions."""
    x = torch.tensor(samples.LOSSES[0][1])
    labels = torch.tensor([0, 5, -1, 2])

    def loss(row, label):
        return ft.softmax_cross_entropy(row, label, ignore_index=-1, reduction="sum")

    per_row = torch.func.vmap(torch.func.grad(loss))(x, labels)
    leaf = x.clone().requires_grad_()
    ft.softmax_cross_entropy(leaf, labels, ignore_index=-1, reduction="sum").backward()
    torch.testing.assert_close(per_row, leaf.grad)
    hessian = torch.func.hessian(lambda t: ft.swiglu(t, t).sum())(x[0])
    expected = torch.func.hessian(lambda t: (t * F.silu(t)).sum())(x[0])
    torch.testing.assert_close(hessian, expected)
    torch.testing.assert_close(torch.func.vmap(ft.glu)(x), F.glu(x))


def test_the_gradient_of_a_loss_that_is_used_twice():
    x = torch.tensor(samples.LOSSES[0][1]).requires_grad_()
    value = ft.softmax_cross_entropy(x, torch.tensor([0, 1, 2, 3]))
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    value.backward(retain_graph=True)
    value.backward(torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(x.grad, 3 * first)


def test_a_gradient_of_a_loss_is_never_written_unnoticed():
    """It may be what the graph keeps: changed in place, a second backward pass must not use it."""
    x = torch.tensor(samples.LOSSES[0][1]).requires_grad_()
    value = ft.softmax_cross_entropy(x, torch.tensor([0, 1, 2, 3]))
    for k in (1, 2, 3):
        value.backward(retain_graph=True)
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        torch.testing.assert_close(x.grad, k * gradient)
    gradient.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
