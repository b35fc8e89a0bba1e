"""The compiled calls of fastact.torch: what holds of calls in Python, and what is their own."""

import os
import shutil
import warnings

import children
import numpy as np
import pytest
import samples

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ft = pytest.importorskip("fastact.torch", reason="PyTorch is not installed")

import test_torch as python  # noqa: E402
import test_torch_fused as fused_tests  # noqa: E402
from test_torch import (  # noqa: E402, F401 - collected here, they meet the compiled calls
    test_an_input_changed_before_backward_is_noticed,
    test_autocast,
    test_compiled,
    test_compiled_with_parameters_and_changing_shapes,
    test_errors,
    test_forward_mode,
    test_gradcheck,
    test_gradcheck_of_rows,
    test_input_is_not_copied_or_written,
    test_integers_become_the_default_dtype,
    test_many_gradients_at_once,
    test_meta_tensors_have_shapes_only,
    test_no_grad_and_detached,
    test_row_ops_are_those_of_the_array_functions,
    test_row_ops_of_scalars_and_empties,
    test_traced,
    test_transforms,
    test_values_and_gradients_are_those_of_the_array_functions,
    test_what_cannot_be_differentiated_twice_says_so,
)

import fastact as fa  # noqa: E402
from fastact.activations.paired import Paired  # noqa: E402
from fastact.compile import abi  # noqa: E402
from fastact.interop.torch import fused, native  # noqa: E402
from fastact.interop.torch.tensors import array_of  # noqa: E402
from fastact.runtime import state  # noqa: E402
from fastact.runtime import store as objects  # noqa: E402

if not any(map(shutil.which, native.COMPILERS)):
    pytest.skip("there is no C++ compiler", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
LARGE = 1 << 20
# these too are to meet the compiled calls
test_values_of_fused = fused_tests.test_values_and_gradients_are_those_of_the_array_functions
test_gradcheck_of_fused = fused_tests.test_gradcheck
test_jacobians_of_fused = fused_tests.test_a_jacobian_in_one_backward_pass
test_an_array_made_from_the_other = fused_tests.test_an_array_made_from_the_other
test_fused_in_torch_compile = fused_tests.test_compiled
test_transforms_of_fused = fused_tests.test_transforms
test_pytorchs_own = fused_tests.test_pytorchs_own
test_losses = fused_tests.test_losses
test_a_loss_used_twice = fused_tests.test_the_gradient_of_a_loss_that_is_used_twice
test_a_gradient_of_a_loss = fused_tests.test_a_gradient_of_a_loss_is_never_written_unnoticed
same = python.same
random = python.random


@pytest.fixture(scope="module", autouse=True)
def built(store):
    """A store with the compiled calls, in force for this module alone; the workers share it."""
    place = os.path.join(store, "built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTACT_CACHE_DIR", place)
        ft.build()
    yield place
    native.use(None)


def call_of(f):
    """The compiled call behind an elementwise function."""
    return f.__globals__["built"]


def test_calls_are_compiled_ones():
    assert native.status() == "compiled"
    x = random(3, dtype="float32").requires_grad_()
    for op in samples.ELEMENTWISE:
        y = getattr(ft, op.name)(x, *samples.other_parameters(op))
        constrained = op.record.constraint
        assert (y.grad_fn.name() == f"{op.name}Backward") != bool(constrained), op.name
        assert getattr(ft, op.name)(x).grad_fn.name() == f"{op.name}Backward"
    for op in samples.ROWWISE:
        assert getattr(ft, op.name)(x).grad_fn.name() == f"{op.name}Backward"
    for op, arrays, numbers in samples.FUSED:
        if isinstance(op.record, Paired):
            given = [torch.tensor(a, requires_grad=True) for a in arrays]
            y = getattr(ft, op.name)(*given, *numbers)
            compiled = given[0].dim() > 0 and numbers[-1:] in ((), (-1,), (op.record.defaults))
            assert not compiled or y.grad_fn.name() == f"{op.name}Backward", (op.name, numbers)


@pytest.mark.parametrize("dtype", python.DTYPES)
def test_large_results_are_the_same_bits(dtype):
    x = random(LARGE, dtype=dtype).requires_grad_()
    dy = random(LARGE, dtype=dtype, seed=1)
    for target in ("auto", "serial", "parallel"):
        with fa.use_target(target):
            y = ft.gelu_tanh(x)
            (dx,) = torch.autograd.grad(y, x, dy)
    same(y, fa.gelu_tanh(array_of(x)))
    same(dx, fa.gelu_tanh_backward(array_of(dy), array_of(x)))
    rows, dy = x.detach().reshape(1024, -1).requires_grad_(), dy.reshape(1024, -1)
    y = ft.log_softmax(rows)
    (dx,) = torch.autograd.grad(y, rows, dy)
    same(y, fa.log_softmax(array_of(rows)))
    same(dx, fa.log_softmax_backward_from_output(array_of(dy), array_of(y)))


class Watched(torch.Tensor):
    pass


class Mode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "x",
    [
        random(6, 4)[::2],
        torch.arange(3),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch._neg_view(random(3)),
        random(3).as_subclass(Watched),
        np.ones(3),
        None,
    ],
    ids=repr,
)
def test_what_is_not_plain_is_left_to_python(x):
    assert call_of(ft.sigmoid)(x) is None


def test_what_is_watched_is_left_to_python():
    call, x = call_of(ft.sigmoid), random(3)
    assert call(x) is not None
    with Mode():
        assert call(x) is None
    seen = []
    torch.func.vmap(lambda t: seen.append(call(t)) or t)(x)
    torch.func.grad(lambda t: seen.append(call(t)) or t.sum())(x)
    with torch.autograd.forward_ad.dual_level():
        seen.append(call(torch.autograd.forward_ad.make_dual(x, x)))
    assert seen == [None] * 3
    state.STATE[abi.STATE_TARGET] = abi.TARGET_CUDA
    try:
        assert call(x) is None
    finally:
        state.STATE[abi.STATE_TARGET] = abi.TARGET_AUTO


@pytest.mark.parametrize("alpha", [True, np.float64(0.5), 10**400, 1e300, float("nan"), -1, "1"])
def test_unusual_parameters_are_left_to_python(alpha):
    assert call_of(ft.celu)(random(3, dtype="float32"), alpha) is None


def test_parameters_may_be_integers():
    x = random(5)
    same(ft.elu(x, 2), fa.elu(x.numpy(), 2.0))
    same(ft.softplus(x, beta=2), fa.softplus(x.numpy(), 2.0))


def test_a_wrong_number_of_arguments_is_an_error():
    with pytest.raises(TypeError, match="sigmoid: wrong number of arguments"):
        call_of(ft.sigmoid)()


def test_layouts_of_input_and_gradient():
    image = random(2, 3, 4, 5).to(memory_format=torch.channels_last)
    turned = random(4, 3).t()
    for x in (image, turned):
        leaf = x.requires_grad_()
        y = ft.mish(leaf)
        assert y.stride() == x.stride()
        for dy in (
            torch.ones_like(x),
            torch.ones(x.shape).double(),
            torch.ones(()).expand(x.shape),
        ):
            (dx,) = torch.autograd.grad(y, leaf, dy.double(), retain_graph=True)
            same(dx.contiguous(), fa.mish_grad(leaf.detach().contiguous().numpy()))
    rows = random(3, 4).requires_grad_()
    y = ft.softmax(rows)
    dy = random(4, 3).t()
    (dx,) = torch.autograd.grad(y, rows, dy)
    same(dx, fa.softmax_backward_from_output(dy.numpy(), y.detach().numpy()))


def in_both_ways(f, way, given, *numbers):
    """A compiled call and the one in Python: the same bits, forward and backward."""
    made = []
    for call in (f, way):
        leaves = [t.detach().requires_grad_() for t in given]
        y = call(*leaves, *numbers)
        dy = random(*y.shape, dtype="float64", seed=1).to(y.dtype)
        made.append((y, *torch.autograd.grad(y, leaves, dy)))
    assert made[0][0].grad_fn.name() == f"{f.__name__}Backward"
    for got, right in zip(*made, strict=True):
        assert got.shape == right.shape
        same(got.detach().contiguous(), array_of(right.contiguous()))


PAIRS = [op for op in fused.fused().values() if isinstance(op.record, Paired)]
LAYOUTS = [
    ((), ()),
    ((0, 4), (0, 4)),
    ((1, 8), (1,)),
    ((1, 8), (8,)),
    ((8, 1), (1,)),
    ((6, 4), (6, 4)),
    ((6, 4), (4,)),
    ((6, 4), (1, 1)),
    ((2, 1, 4), (4,)),
    ((70, 3, 8), (8,)),
    ((70, 300), (1,)),
    ((300, 256), (256,)),
    ((1100, 256), (256,)),
    ((5000,), (1,)),
    ((64, 2), (2,)),
    ((33, 7, 130), (130,)),
]


@pytest.mark.parametrize("dtype", python.DTYPES)
@pytest.mark.parametrize("op", PAIRS, ids=lambda op: op.name)
def test_two_tensors_of_any_shapes_that_meet(op, dtype):
    f, way = getattr(ft, op.name), lambda *given: fused.call(op, *given)
    numbers = tuple(n.default for n in op.numbers)
    for shapes in LAYOUTS:
        given = [
            random(*s, dtype="float64", seed=k).to(getattr(torch, dtype))
            for k, s in enumerate(shapes)
        ]
        if len(op.arrays) == 2:
            in_both_ways(f, way, given, *numbers)
        elif given[0].numel() and given[0].dim() and given[0].shape[-1] % 2 == 0:
            in_both_ways(f, way, given[:1], *numbers)


def test_sums_are_made_without_python(monkeypatch):
    """Those of the usual shapes."""

    def called(*given):
        raise AssertionError

    monkeypatch.setattr(fused, "backward", called)
    native.use(native._module)  # what is offered is read anew
    try:
        for op in (op for op in PAIRS if op.record.form.backward.results):
            for shapes in (((6, 4), (4,)), ((6, 4), (1,)), ((2, 3, 4), (4,)), ((9,), (1,))):
                x, b = (random(*s).requires_grad_() for s in shapes)
                dy = random(*shapes[0], seed=2)
                got = torch.autograd.grad(getattr(ft, op.name)(x, b), (x, b), dy)
                expected = op.backward(*map(array_of, (dy, x, b)))
                for g, right in zip(got, expected, strict=True):
                    same(g, right)
    finally:
        monkeypatch.undo()
        native.use(native._module)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_of_class_ids(reduction, dtype):
    op = fa.get("softmax_cross_entropy")
    for shape in ((7,), (1, 5), (4, 6), (300, 3), (2, 3, 10), (40, 200)):
        x = (4 * random(*shape, dtype="float64")).to(dtype).requires_grad_()
        labels = (random(*shape[:-1], dtype="float64").abs() * 100).long() % shape[-1]
        value = ft.softmax_cross_entropy(x, labels, reduction=reduction)
        assert value.grad_fn.name() == "softmax_cross_entropyBackward"
        expected, slope = op.value_and_grad(array_of(x), labels.numpy(), reduction=reduction)
        same(value, np.asarray(expected))
        plain = ft.softmax_cross_entropy(x.detach(), labels, reduction=reduction)
        same(plain, np.asarray(expected))
        dloss = torch.full_like(value, 0.5)
        (dx,) = torch.autograd.grad(value, x, torch.ones_like(value), retain_graph=True)
        same(dx, slope)
        (dx,) = torch.autograd.grad(value, x, dloss, retain_graph=True)
        same(dx, slope / 2)
        (dx,) = torch.autograd.grad(value, x, dloss, create_graph=True)
        torch.testing.assert_close(dx.detach(), torch.from_numpy(slope / 2))
        assert dx.requires_grad


def test_other_calls_of_a_loss_are_left_to_python():
    call, x, labels = call_of(ft.softmax_cross_entropy), random(3, 4), torch.tensor([0, 1, 3])
    usual = (-1, None, None, 0.0, "mean")
    assert call(x, labels, *usual) is not None
    for given in (
        (x.t(), labels, *usual),
        (x, labels.int(), *usual),
        (x, labels[:2], *usual),
        (x, torch.tensor([0, 4, 1]), *usual),
        (x, torch.tensor([0, -1, 1]), *usual),
        (x, x, *usual),
        (x, [0, 1, 2], *usual),
        (x.half(), labels, *usual),
        (x, labels, 0, *usual[1:]),
        (x, labels, -1, torch.ones(4), None, 0.0, "mean"),
        (x, labels, -1, None, 1, 0.0, "mean"),
        (x, labels, -1, None, None, 0.1, "mean"),
        (x, labels, -1, None, None, 0.0, "median"),
        (x, labels, -1, None, None, 0.0, None),
    ):
        assert call(*given) is None
    with pytest.raises(ValueError, match=r"label 4 at \(1,\) is out of range"):
        ft.softmax_cross_entropy(x, torch.tensor([0, 4, 1]))
    leaf = x.requires_grad_()
    value = ft.softmax_cross_entropy(leaf, labels)
    labels.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, leaf, create_graph=True)


def test_tensors_that_do_not_meet_are_left_to_python():
    call = call_of(ft.swiglu)
    for a, b in (
        (random(3, 4), random(3, 1)),
        (random(4), random(3, 4)),
        (random(3, 4), random(4, 3).t()),
        (random(3, 4), random(3, 4).float()),
        (random(4), random(1, 1)),
        (random(3, 4), random(3)),
    ):
        assert call(a, b, 1.0) is None
    assert call_of(ft.glu)(random(3, 3), -1) is None  # which tells what is wrong
    assert call_of(ft.glu)(random(4, 4), 0) is None


def test_strides_of_an_axis_of_one_index_say_nothing():
    for shape, strides in (((1, 8), (1, 1)), ((8, 1), (1, 5)), ((2, 1, 4), (4, 99, 1))):
        x = torch.linspace(-3, 3, 8).as_strided(shape, strides)
        leaf = x.detach().requires_grad_()
        y = ft.mish(leaf)
        same(y, fa.mish(x.numpy()))
        (dx,) = torch.autograd.grad(y, leaf, torch.ones(shape))
        same(dx, fa.mish_grad(x.numpy()))
        same(ft.swiglu(x, torch.ones(shape)), fa.swiglu(x.numpy(), np.ones(shape, np.float32)))


@pytest.mark.parametrize("op", samples.ROWWISE, ids=samples.name_of)
def test_rows_along_any_axis(op):
    f = getattr(ft, op.name)
    for shape in ((5,), (3, 4), (4, 1), (2, 3, 4), (2, 3, 0)):
        for dim in range(-len(shape), len(shape)):
            for dtype in (torch.float32, torch.bfloat16):
                x = random(*shape, dtype="float64").to(dtype)
                if x.numel():
                    in_both_ways(f, lambda *given: python_rows(op, *given), [x], dim)


def python_rows(op, x, dim):
    from fastact.interop.torch.functions import call_rows

    return call_rows(op, x, dim)


@pytest.mark.parametrize("name", ["mish", "softmax"])
def test_a_graph_is_used_once_and_watches_what_it_keeps(name):
    leaf = random(3, 4).requires_grad_()
    x = leaf * 1
    y = getattr(ft, name)(x)
    loss = (y * random(3, 4, seed=1)).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    y = getattr(ft, name)(x)
    kept = y if name == "softmax" else x
    with torch.no_grad():
        kept.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["mish", "softmax"])
def test_hooks_and_checkpoints(name):
    f = getattr(ft, name)
    x = random(3, 4).requires_grad_()
    dy = random(3, 4, seed=1)
    (expected,) = torch.autograd.grad(f(x), x, dy)
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(1) or t.clone(), torch.neg):
        y = f(x)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert seen == [1]
    again = torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False)
    assert not torch.equal(dx, expected)  # computed from what the hook gave back
    assert torch.equal(torch.autograd.grad(again, x, dy)[0], expected)


def test_compiled_backward_pass():
    x = random(8).requires_grad_()
    enabled = torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager"))
    with warnings.catch_warnings(action="ignore"), enabled:  # PyTorch's own, on what it skips
        for parameters in ((), (0.7,)):
            (dx,) = torch.autograd.grad(ft.elu(x, *parameters), x, torch.ones(8).double())
            same(dx, fa.elu_grad(x.detach().numpy(), *parameters))


def test_an_error_in_the_general_way_reaches_the_caller():
    x = random(3).requires_grad_()

    def broken(*given):
        raise ZeroDivisionError("as told")

    call = native._module.call(
        "sigmoid",
        (),
        (),
        native.ELEMENTS,
        1,
        False,
        False,
        native.NOT_SUMMED,
        lambda *_: prepared,
        broken,
        None,
    )
    op = samples.elementwise()["sigmoid"]
    prepared = ()
    with pytest.raises(TypeError):  # what prepares gave nothing
        call(x)
    from fastact.activations.directions import DIRECTIONS
    from fastact.runtime.loops import Loop

    ways = ("forward", "backward")
    loops = [Loop(op.record, DIRECTIONS[d], "float64", True) for d in ways]
    prepared = native.addresses("ufunc_loop", loops)
    y = call(x)
    with pytest.raises(ZeroDivisionError, match="as told"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_a_kernel_that_cannot_be_had_is_an_error(monkeypatch):
    from fastact.runtime.loops import CompileError, Loop

    def fail(self, variant):
        raise CompileError("no kernel today")

    monkeypatch.setattr(Loop, "resolve", fail)
    native.use(native._module)  # nothing prepared yet
    with pytest.raises(CompileError, match="no kernel today"):
        ft.sigmoid(random(3))
    monkeypatch.undo()
    same(ft.sigmoid(random(3)), fa.sigmoid(random(3).numpy()))


def stored_in(place):
    return {"FASTACT_CACHE_DIR": place, "CXX": "there-is-none"}


def test_what_was_built_is_loaded_by_the_next_process(built):
    code = """
        import torch, fastact.torch as ft
        x = torch.ones(3, requires_grad=True)
        assert ft.sigmoid(x).grad_fn.name() == "sigmoidBackward"
        ft.build()
    """
    children.run(code, stored_in(built))


def test_turned_off(built):
    code = """
        import torch, fastact.torch as ft
        from fastact.interop.torch import native
        x = torch.ones(3, requires_grad=True)
        assert ft.sigmoid(x).grad_fn.name() != "sigmoidBackward"
        assert native.status() == "in Python (FASTACT_TORCH_NATIVE=0)"
        try:
            ft.build()
        except RuntimeError as error:
            assert "FASTACT_TORCH_NATIVE=0" in str(error)
        else:
            raise AssertionError
    """
    children.run(code, {**stored_in(built), native.VARIABLE: "0"})


def test_a_damaged_file_leaves_calls_in_python(tmp_path):
    code = """
        import warnings
        from fastact.interop.torch import native
        from fastact.runtime import store
        assert native.status() == "in Python; fastact.torch.build() compiles them"
        store.put(native.object_name(), b"nothing to load")
        import torch, fastact.torch as ft
        x = torch.ones(3, requires_grad=True)
        assert ft.sigmoid(x).grad_fn.name() != "sigmoidBackward"
        assert "cannot be loaded" in native.status(), native.status()
    """
    children.run(code, stored_in(str(tmp_path / "store")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_threads_and_forks(built):
    """Also in a child of a process whose threads, PyTorch's and ours, have worked."""
    code = """
        import os, threading, warnings
        warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
        import torch, fastact as fa, fastact.torch as ft
        fa.set_num_threads(4)
        torch.set_num_threads(4)
        x = torch.linspace(-8, 8, 1 << 18, requires_grad=True)
        dy = torch.ones_like(x)

        def work():
            y = ft.gelu_tanh(x)
            assert y.grad_fn.name() == "gelu_tanhBackward"
            return y.detach(), torch.autograd.grad(y, x, dy)[0]

        def same(made):  # without PyTorch's OpenMP, which waits for ever in a forked child
            return all(bool((a.numpy() == b.numpy()).all()) for a, b in zip(made, expected))

        expected = work()
        errors = []

        def often():
            try:
                for _ in range(20):
                    assert same(work())
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=often) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors, errors
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = int(not same(work()))
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert same(work())
    """
    children.run(code, stored_in(built))


def test_threads_that_exit_ends(built):
    """Python unwinds them where they wait for the interpreter; nothing there may object.

    The results are kept: PyTorch lets the interpreter go where it frees a tensor, and a thread that
    exit finds there ends the process, as it does with `torch.nn.functional.gelu` in our place.
    """
    code = """
        import threading, time, torch, fastact.torch as ft
        x = torch.ones(1 << 21)
        kept = []

        def without_end():
            while True:
                kept.append(ft.gelu(x))

        ft.gelu(x)
        for _ in range(3):
            threading.Thread(target=without_end, daemon=True).start()
        time.sleep(0.05)
    """
    children.run(code, stored_in(built))


class Unbuilt:
    """The state of a process before `build`."""

    def __init__(self, monkeypatch, place):
        self.used = []
        monkeypatch.setattr(native, "_module", None)
        monkeypatch.setattr(native, "use", self.used.append)
        monkeypatch.setenv("FASTACT_CACHE_DIR", str(place))


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    return Unbuilt(monkeypatch, tmp_path / "store")


def test_a_missing_compiler_is_told(unbuilt, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"none of c\+\+, g\+\+, clang\+\+ was found"):
        ft.build()
    monkeypatch.setenv("CXX", "there-is-none -O3")
    with pytest.raises(RuntimeError, match="'there-is-none -O3', which CXX names"):
        ft.build()
    assert not unbuilt.used


def test_missing_headers_are_told(unbuilt, monkeypatch, tmp_path):
    monkeypatch.setattr(native.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(RuntimeError, match=r"no .*Python\.h \(Debian"):
        ft.build()


def test_what_the_compiler_says_is_told(unbuilt, monkeypatch, tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text('#error "not today"\n')
    monkeypatch.setattr(native, "SOURCE", source)
    with pytest.raises(RuntimeError, match=r"the C\+\+ compiler failed:\n.*not today"):
        ft.build()
    assert not unbuilt.used


def test_where_nothing_can_be_kept_it_serves_the_process(unbuilt, built, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("FASTACT_CACHE_DIR", built)
        code = objects.get(native.object_name())
    monkeypatch.setattr(native, "compiled", lambda: code)
    monkeypatch.setattr(objects, "folder", lambda: None)
    with pytest.warns(UserWarning, match="cannot be kept in .*: they serve this process only"):
        ft.build()
    assert [type(m) for m in unbuilt.used] == [type(os)]
