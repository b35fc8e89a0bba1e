"""fastact.torch against fastact on arrays, PyTorch's own checks and PyTorch's own modules."""

import numpy as np
import ops
import pytest
import samples

from fastact.interop.second import SECOND

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ft = pytest.importorskip("fastact.torch", reason="PyTorch is not installed")

from fastact.interop.torch.modules import ACTIVATIONS, REPLACEMENTS  # noqa: E402
from fastact.interop.torch.operators import ROWS_TWICE  # noqa: E402
from fastact.interop.torch.tensors import array_of, tensor_of  # noqa: E402

# PyTorch's own formulas for forward mode are still in TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
elementwise = pytest.mark.parametrize("op", samples.ELEMENTWISE, ids=samples.name_of)
rowwise = pytest.mark.parametrize("op", samples.ROWWISE, ids=samples.name_of)
DTYPES = ("float16", "bfloat16", "float32", "float64")
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def random(*shape, dtype="float64", seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (3 * x).to(getattr(torch, dtype))


def layouts(dtype):
    """Tensors of many shapes and strides."""
    x = random(6, 5, 4, dtype=dtype)
    return {
        "contiguous": x,
        "transposed": x.permute(2, 0, 1),
        "sliced": x[::2, 1:, ::3],
        "expanded": x[:1].expand(3, 5, 4),
        "scalar": x[0, 0, 0],
        "empty": x[:0],
        "negated": torch._neg_view(x),
        "parameter": torch.nn.Parameter(x),
    }


def same(got, expected):
    """A tensor and an array hold the same bits."""
    ops.assert_same_bits(array_of(got), np.asarray(expected))


@elementwise
@dtypes
def test_values_and_gradients_are_those_of_the_array_functions(op, dtype):
    f = getattr(ft, op.name)
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        for x in layouts(dtype).values():
            same(f(x, *parameters), op.forward(array_of(x), *parameters))
            leaf = x.detach().clone().requires_grad_()
            y = f(leaf, *parameters)
            assert y.requires_grad and y.dtype == x.dtype and y.shape == x.shape
            dy = random(*x.shape, dtype=dtype, seed=1)
            y.backward(dy)
            same(leaf.grad, op.backward(array_of(dy), array_of(leaf), *parameters))


@rowwise
@dtypes
@pytest.mark.parametrize("dim", [-1, 0, 1])
def test_row_ops_are_those_of_the_array_functions(op, dtype, dim):
    f = getattr(ft, op.name)
    for x in layouts(dtype).values():
        if x.dim() < 2 or not x.numel():
            continue
        leaf = x.detach().clone().requires_grad_()
        y = f(leaf, dim)
        expected = op.forward(array_of(leaf), axis=dim)
        same(y, expected)
        same(f(x.detach(), dim), op.forward(array_of(x), axis=dim))
        dy = random(*y.shape, dtype=dtype, seed=1)
        y.backward(dy)
        kept = expected if op.keeps_output else array_of(leaf)
        same(leaf.grad, op.backward(array_of(dy), kept, axis=dim))


def test_row_ops_of_scalars_and_empties():
    assert ft.softmax(torch.tensor(3.0)) == 1
    assert ft.logsumexp(torch.tensor(3.0)) == 3
    assert ft.softmax(torch.empty(0, 3)).shape == (0, 3)
    assert ft.logsumexp(torch.empty(2, 0)).tolist() == [-np.inf] * 2
    assert ft.logsumexp(random(2, 3, 4), 1, keepdim=True).shape == (2, 1, 4)


@elementwise
def test_gradcheck(op):
    f = getattr(ft, op.name)
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        x = torch.tensor(samples.smooth_points(op, 9, parameters), requires_grad=True)
        torch.autograd.gradcheck(lambda t: f(t, *parameters), (x,), check_forward_ad=True)  # noqa: B023
        if op.name in SECOND:
            torch.autograd.gradgradcheck(lambda t: f(t, *parameters), (x,))  # noqa: B023


@rowwise
def test_gradcheck_of_rows(op):
    f = getattr(ft, op.name)
    x = random(3, 4, 2).requires_grad_()
    for dim in (0, -1):
        torch.autograd.gradcheck(lambda t: f(t, dim), (x,), check_forward_ad=True)  # noqa: B023
        if op.name in ROWS_TWICE:
            torch.autograd.gradgradcheck(lambda t: f(t, dim), (x,))  # noqa: B023


def operators():
    """Every operator with arguments for it."""
    x = random(3, 4, dtype="float32").abs().mul(0.1).add(0.1)  # in every op's domain
    cases = []
    for op in samples.ELEMENTWISE:
        cases.append((op.name, (x,)))
        cases.append((f"{op.name}_backward", (random(3, 4, dtype="float32"), x)))
        if op.name in SECOND:
            cases.append((f"{op.name}_double_backward", (x, x.flip(0), x)))
    for op in samples.ROWWISE:
        for dim in (0, -1):
            y = getattr(ft, op.name)(x, dim)
            cases.append((op.name, (x, dim)))
            cases.append((f"{op.name}_backward", (torch.ones_like(y), x, dim)))
    return [pytest.param(name, given, id=name) for name, given in cases]


@pytest.mark.parametrize(("name", "given"), operators())
def test_opcheck(name, given):
    operator = getattr(torch.ops.fastact, name).default
    has_gradient = "double" not in name and not (
        name.endswith("_backward") and name.removesuffix("_backward") not in {*SECOND, *ROWS_TWICE}
    )
    arguments = tuple(
        g.detach().clone().requires_grad_(has_gradient) if isinstance(g, torch.Tensor) else g
        for g in given
    )
    assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}
    strided = tuple(
        g.detach().t().contiguous().t() if isinstance(g, torch.Tensor) and g.dim() == 2 else g
        for g in given
    )
    torch.library.opcheck(operator, strided, test_utils="test_faketensor")


@pytest.mark.parametrize("name", ["swish", "elu", "softmax", "logsumexp"])
def test_compiled(name):
    """One graph, the same numbers, forward and backward."""
    f = getattr(ft, name)

    def step(x):
        return (f(2 * x + 1) ** 2).sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    x = random(4, 5, dtype="float32").requires_grad_()
    expected = torch.autograd.grad(step(x), x)[0]
    assert compiled(x).item() == step(x).item()
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], expected, rtol=0, atol=0)


def test_compiled_with_parameters_and_changing_shapes():
    compiled = torch.compile(
        lambda x: ft.elu(x, alpha=0.5), backend="aot_eager", fullgraph=True, dynamic=True
    )
    for n in (3, 7):
        x = random(n, 2, dtype="float32")
        torch.testing.assert_close(compiled(x), ft.elu(x, 0.5), rtol=0, atol=0)


def test_transforms():
    x = random(5, 3)
    expected = torch.autograd.grad(ft.swish(x.requires_grad_()).sum(), x)[0]
    x = x.detach()
    one = torch.func.grad(lambda row: ft.swish(row).sum())
    torch.testing.assert_close(torch.func.vmap(one)(x), expected, rtol=0, atol=0)
    curvature = torch.func.hessian(lambda t: ft.swish(t).sum())(x[0])
    expected = torch.autograd.functional.hessian(lambda t: ft.swish(t).sum(), x[0])
    torch.testing.assert_close(curvature, expected)
    pushed = torch.func.jvp(ft.swish, (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(pushed, torch.func.grad(lambda t: ft.swish(t).sum())(x))
    for op in ("softmax", "logsumexp"):
        f = getattr(ft, op)
        per_row = torch.func.vmap(torch.func.grad(lambda t: (f(t, 0) ** 2).sum()))(x)  # noqa: B023
        leaf = x.clone().requires_grad_()
        (f(leaf, 1) ** 2).sum().backward()
        torch.testing.assert_close(per_row, leaf.grad)
        torch.testing.assert_close(torch.func.vmap(f)(x), f(x, -1), rtol=0, atol=0)
        torch.testing.assert_close(
            torch.func.vmap(lambda r: f(r, 0), in_dims=1)(x),  # noqa: B023
            f(x, 0) if op == "logsumexp" else f(x, 0).t(),
            rtol=0,
            atol=0,
        )
    made = torch.func.functionalize(lambda t: ft.swish(t + 0))(x)
    torch.testing.assert_close(made, ft.swish(x), rtol=0, atol=0)


def test_many_gradients_at_once():
    """The backward pass alone runs under vmap, of torch.func and of autograd."""
    x = random(4).requires_grad_()
    every = torch.eye(4, dtype=x.dtype)
    for f in (ft.swish, ft.softmax):
        expected = torch.autograd.functional.jacobian(f, x)
        y = f(x)
        (rows,) = torch.autograd.grad(y, x, every, retain_graph=True, is_grads_batched=True)
        torch.testing.assert_close(rows, expected)
        rows = torch.func.vmap(lambda dy: torch.autograd.grad(y, x, dy, retain_graph=True)[0])(  # noqa: B023
            every
        )
        torch.testing.assert_close(rows, expected)


def test_traced():
    """Tracing sees an operator, not a constant."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda t: ft.tanh(t), tracing_mode="real")(random(3))
    assert "fastact.tanh" in graph.code
    x = random(3, seed=5)
    torch.testing.assert_close(graph(x), ft.tanh(x))


def test_forward_mode():
    from torch.autograd import forward_ad

    x, t = random(4), random(4, seed=1)
    with forward_ad.dual_level():
        y = ft.swish(forward_ad.make_dual(x, t))
        tangent = forward_ad.unpack_dual(y).tangent
    same(tangent, samples.elementwise()["swish"].backward(t.numpy(), x.numpy()))


def test_autocast():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), ft.Activation("swish"))
    rows = ft.RowActivation("log_softmax")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = rows(model(random(3, 4, dtype="float32")))
    assert y.dtype == torch.bfloat16
    y.float().pow(2).sum().backward()
    assert model[0].weight.grad.dtype == torch.float32
    assert model[0].weight.grad.abs().sum() > 0


def test_integers_become_the_default_dtype():
    x = torch.arange(-2, 3)
    for given in (x, x > 0, x.to(torch.uint8)):
        torch.testing.assert_close(ft.sigmoid(given), torch.sigmoid(given))
        torch.testing.assert_close(ft.softmax(given), torch.softmax(given.float(), -1))


def test_no_grad_and_detached():
    x = random(3).requires_grad_()
    with torch.no_grad():
        assert not ft.swish(x).requires_grad
        assert not ft.softmax(x).requires_grad
    with torch.inference_mode():
        assert ft.swish(x).is_inference()
    assert x.grad is None


def test_input_is_not_copied_or_written():
    x = random(5)
    assert np.shares_memory(array_of(x), x.numpy())
    half = x.bfloat16()
    assert array_of(half).ctypes.data == half.data_ptr()
    assert tensor_of(array_of(half)).data_ptr() == half.data_ptr()
    before = x.clone()
    ft.swish(x)
    assert torch.equal(x, before)


def test_an_input_changed_before_backward_is_noticed():
    x = random(5).requires_grad_()
    leaf = x * 1
    y = ft.swish(leaf)
    with torch.no_grad():
        leaf.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_cannot_be_differentiated_twice_says_so(monkeypatch):
    monkeypatch.delitem(SECOND, "swish")
    x = random(3).requires_grad_()
    (g,) = torch.autograd.grad(ft.swish(x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="swish has no second derivative"):
        g.sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ft.swish(np.ones(3)), TypeError, "swish: x must be a torch.Tensor, got ndarray"),
        (lambda: ft.swish(torch.ones(3, dtype=torch.complex64)), TypeError, "complex64"),
        (lambda: ft.swish(torch.eye(3).to_sparse()), TypeError, "dense"),
        (lambda: ft.swish(torch.ones(3), beta=np.nan), ValueError, "beta must be finite"),
        (lambda: ft.swish(torch.ones(3), slope=1), TypeError, "slope"),
        (lambda: ft.softmax(torch.ones(3), 1), IndexError, "dim 1 is out of range"),
        (lambda: ft.softmax(torch.ones(3), "0"), TypeError, "dim must be an integer"),
        (lambda: ft.softmax(torch.ones(3, dtype=torch.complex64)), TypeError, "complex64"),
        (lambda: ft.swish(torch.ones(3, device="meta").to(torch.complex64)), TypeError, "complex"),
        (lambda: ft.swiglu(torch.ones(3), torch.ones(4)), ValueError, "do not broadcast"),
        (lambda: ft.swiglu(torch.ones(3), 2.0), TypeError, "swiglu: b must be a torch.Tensor, got"),
        (lambda: ft.glu(torch.ones(3)), ValueError, "glu: x must have an even length"),
        (lambda: ft.glu(torch.ones(4), 3), IndexError, "glu: dim 3 is out of range"),
        (lambda: ft.maxout(torch.ones(4), 3), ValueError, "maxout: groups must divide"),
        (lambda: ft.maxout(torch.ones(4), 2.0), TypeError, "maxout: groups must be an integer"),
        (
            lambda: ft.softmax_cross_entropy(torch.ones(2, 3), [0, 1]),
            TypeError,
            "labels must be a torch.Tensor, got list",
        ),
        (
            lambda: ft.softmax_cross_entropy(torch.ones(2, 3), torch.tensor([0, 3])),
            ValueError,
            "label 3 at",
        ),
        (
            lambda: ft.sigmoid_cross_entropy(torch.ones(2), torch.ones(2), weight=2.0),
            TypeError,
            "weight must be a torch.Tensor or None, got float",
        ),
        (lambda: ft.FusedActivation("swiglu"), ValueError, "op must be one of"),
        (lambda: ft.FusedActivation("glu", axis=1), TypeError, "glu has no argument 'axis'"),
        (lambda: ft.Loss("hinge"), ValueError, "op must be one of"),
        (lambda: ft.Loss("sigmoid_cross_entropy", dim=1), TypeError, "has no option 'dim'"),
        (lambda: ft.Activation("nothing"), ValueError, "op must be one of"),
        (lambda: ft.Activation("swish", slope=1), TypeError, "swish has no parameter 'slope'"),
        (lambda: ft.RowActivation("swish"), ValueError, "op must be one of"),
        (lambda: ft.accelerate("model"), TypeError, "module must be a torch.nn.Module, got str"),
        (lambda: ft.no_such_op, AttributeError, "no_such_op"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_meta_tensors_have_shapes_only():
    y = ft.swish(torch.ones(3, 4, device="meta"))
    assert y.is_meta and y.shape == (3, 4)


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_accelerate_keeps_what_a_model_computes(kind):
    given = {"Threshold": (0.1, 20.0), "Softmax": (1,), "LogSoftmax": (1,), "Softmin": (1,)}
    old = kind(*given.get(kind.__name__, ()))
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), old)
    x = random(5, 6, dtype="float32")
    if kind.__name__.endswith("Loss"):
        return  # with their targets, below
    if kind is torch.nn.GLU:
        model.append(torch.nn.Identity())
    expected = None if kind.__name__ == "Softmax2d" else model(x)
    report = ft.accelerate(model)
    assert len(report.swapped) + len(report.left) == 1
    assert kind.__name__ in str(report)
    if report.swapped:
        assert kind in REPLACEMENTS and model[1] is not old
        torch.testing.assert_close(model(x), expected, rtol=2e-6, atol=2e-6)
    else:
        assert model[1] is old and report.left[0][2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": True},
        {"label_smoothing": 0.1},
        {"weight": True, "label_smoothing": 0.3, "reduction": "sum"},
        {"ignore_index": 2, "reduction": "none"},
    ],
)
def test_accelerated_losses(options):
    """Losses of torch's own options and shapes: classes along axis 1 of a batch."""
    weight = torch.tensor([0.5, 1.0, 2.0, 0.7])
    given = {**options, "weight": weight} if "weight" in options else options
    old = torch.nn.CrossEntropyLoss(**given)
    new = ft.accelerate(old).module
    assert isinstance(new, ft.Loss) and set(new.state_dict()) == set(old.state_dict())
    x = random(3, 4, 5, dtype="float32").requires_grad_()
    ids = torch.arange(15).reshape(3, 5) % 4
    ids[0, 0] = old.ignore_index
    targets = [ids]
    if old.ignore_index < 0:  # else torch refuses probabilities, and so does fastact
        targets.append(torch.softmax(random(3, 4, 5, seed=1, dtype="float32"), 1))
    for logits, target in [*((x, t) for t in targets), (x[0, :, 0], ids[1, 0])]:
        expected, found = old(logits, target), new(logits, target)
        torch.testing.assert_close(found, expected)
        (theirs,) = torch.autograd.grad(expected.sum(), x, retain_graph=True)
        (ours,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
        torch.testing.assert_close(ours, theirs)
    old = torch.nn.BCEWithLogitsLoss(pos_weight=weight, reduction=old.reduction)
    x, t = random(3, 4, dtype="float32"), random(3, 4, dtype="float32", seed=1).sigmoid()
    torch.testing.assert_close(ft.accelerate(old).module(x, t), old(x, t))


def test_accelerated_prelu_keeps_its_weight():
    model = torch.nn.Sequential(torch.nn.PReLU(4), torch.nn.PReLU())
    weights = list(model.parameters())
    x = random(2, 4, 3, 3, dtype="float32")
    expected = model(x)
    names = list(model.state_dict())
    assert len(ft.accelerate(model).swapped) == 2
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    torch.testing.assert_close(model(x), expected)
    rows = random(5, 4, dtype="float32")
    torch.testing.assert_close(model[0](rows), torch.nn.functional.prelu(rows, weights[0]))


def test_an_accelerated_model_compiles_and_exports():
    """In one graph, without a warning: how functions are made is not traced."""
    layers = [torch.nn.Linear(8, 16), torch.nn.PReLU(), torch.nn.Mish(), torch.nn.GLU()]
    model = torch.nn.Sequential(*layers, torch.nn.LogSoftmax(1))
    ft.accelerate(model)
    loss = ft.accelerate(torch.nn.CrossEntropyLoss(weight=torch.ones(8))).module
    x, labels = random(3, 8, dtype="float32"), torch.tensor([0, 5, 2])
    targets = torch.softmax(random(3, 8, dtype="float32", seed=1), 1).requires_grad_()
    for target in (labels, targets):
        compiled = torch.compile(
            lambda x, t: loss(model(x), t), backend="aot_eager", fullgraph=True
        )
        compiled(x, target).backward()
        torch.testing.assert_close(compiled(x, target), loss(model(x), target))
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=0, atol=0)


def test_accelerate_in_depth():
    shared = torch.nn.SiLU()
    hooked = torch.nn.SiLU()
    hooked.register_forward_hook(lambda *_: None)

    class Own(torch.nn.SiLU):
        pass

    model = torch.nn.ModuleDict(
        {
            "body": torch.nn.Sequential(shared, torch.nn.Linear(2, 2), shared),
            "hooked": hooked,
            "own": Own(),
            "plain": torch.nn.ReLU(inplace=True),
        }
    ).eval()
    report = ft.accelerate(model, only=("swish",))
    assert [path for path, _, _ in report.swapped] == ["body.0", "body.2"]
    assert model["body"][0] is model["body"][2]
    assert not model["body"][0].training
    reasons = {path: why for path, _, why in report.left}
    assert reasons == {
        "hooked": "it has hooks",
        "own": "fastact has no module for Own",
        "plain": "not among those asked for",
    }
    assert "body.0: SiLU() -> Activation(swish)" in str(report)
    alone = ft.accelerate(torch.nn.SiLU())
    assert isinstance(alone.module, ft.Activation)
    assert str(ft.accelerate(torch.nn.Linear(1, 1))) == "no activation modules"


def test_a_module_can_be_saved():
    import io

    model = torch.nn.Sequential(ft.Activation("elu", alpha=0.5), ft.RowActivation("softmax", 0))
    model.extend([ft.FusedActivation("glu"), ft.accelerate(torch.nn.PReLU()).module])
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = random(3, 4, dtype="float32")
    assert torch.equal(loaded(x), model(x))
    assert list(model.state_dict()) == ["3.weight"]


def test_training_converges_as_with_torch():
    def train(activation):
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(4, 16), activation, torch.nn.Linear(16, 1))
        x = torch.randn(64, 4)
        y = x.prod(1, keepdim=True)
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for _ in range(50):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    ours, theirs = train(ft.Activation("swish")), train(torch.nn.SiLU())
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_public_names():
    for name in ft.__all__:
        assert getattr(ft, name) is not None
    assert {"swish", "silu", "softmax", "accelerate"} <= set(dir(ft))
    assert "fastact.swish" in ft.swish.__doc__ and ft.swish.__module__ == "fastact.torch"
