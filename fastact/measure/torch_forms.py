"""PyTorch's kernels with a preallocated result, where a record's own form does not say.

Backward passes are what autograd itself calls.

`x`, `y`, `dy` and `out` are tensors; parameters and `axis` are in scope.
"""

from __future__ import annotations

SELU = "1.6732632423543772, 1.0507009873554805, 1"

# Operations of which PyTorch keeps the output for the backward pass.
KEEPS_OUTPUT = {
    "sigmoid": "torch.ops.aten.sigmoid_backward.grad_input(dy, y, grad_input=out)",
    "tanh": "torch.ops.aten.tanh_backward.grad_input(dy, y, grad_input=out)",
    "relu": "torch.ops.aten.threshold_backward.grad_input(dy, y, 0, grad_input=out)",
    "softmax": "torch.ops.aten._softmax_backward_data.out(dy, y, axis, dy.dtype, grad_input=out)",
    "log_softmax": (
        "torch.ops.aten._log_softmax_backward_data.out(dy, y, axis, dy.dtype, out=out)"
    ),
}

# Operations of which it keeps the input.
KEEPS_INPUT = {
    "leaky_relu": (
        "torch.ops.aten.leaky_relu_backward.grad_input("
        "dy, x, negative_slope, False, grad_input=out)"
    ),
    "elu": "torch.ops.aten.elu_backward.grad_input(dy, alpha, 1, 1, False, x, grad_input=out)",
    "swish": "torch.ops.aten.silu_backward.grad_input(dy, x, grad_input=out)",
    "celu": (
        "torch.ops.aten.elu_backward.grad_input(dy, alpha, 1, 1 / alpha, False, x, grad_input=out)"
    ),
    "selu": (f"torch.ops.aten.elu_backward.grad_input(dy, {SELU}, False, x, grad_input=out)"),
    "relu6": "torch.ops.aten.hardtanh_backward.grad_input(dy, x, 0, 6, grad_input=out)",
    "threshold": "torch.ops.aten.threshold_backward.grad_input(dy, x, threshold, grad_input=out)",
    "hard_tanh": "torch.ops.aten.hardtanh_backward.grad_input(dy, x, min, max, grad_input=out)",
    "hard_sigmoid": "torch.ops.aten.hardsigmoid_backward.grad_input(dy, x, grad_input=out)",
    "hard_swish": "torch.ops.aten.hardswish_backward.out(dy, x, out=out)",
    "soft_shrink": "torch.ops.aten.softshrink_backward.grad_input(dy, x, lambd, grad_input=out)",
    "hard_shrink": "torch.ops.aten.hardshrink_backward.grad_input(dy, x, lambd, grad_input=out)",
    "gelu": "torch.ops.aten.gelu_backward.grad_input(dy, x, grad_input=out)",
    "gelu_tanh": (
        'torch.ops.aten.gelu_backward.grad_input(dy, x, approximate="tanh", grad_input=out)'
    ),
    "mish": "torch.ops.aten.mish_backward(dy, x)",
    "softplus": "torch.ops.aten.softplus_backward.grad_input(dy, x, beta, 20, grad_input=out)",
    "logit": "torch.ops.aten.logit_backward.grad_input(dy, x, None, grad_input=out)",
}

# Forms that read the output although the input is what PyTorch keeps by default.
FROM_OUTPUT = {
    "celu": (
        "torch.ops.aten.elu_backward.grad_input(dy, alpha, 1, 1 / alpha, True, y, grad_input=out)"
    ),
    "selu": f"torch.ops.aten.elu_backward.grad_input(dy, {SELU}, True, y, grad_input=out)",
    "elu": "torch.ops.aten.elu_backward.grad_input(dy, alpha, 1, 1, True, y, grad_input=out)",
}

# Forward passes whose public function takes no `out`.
FORWARD = {
    "identity": "out.copy_(x)",
    "leaky_relu": "torch.ops.aten.leaky_relu.out(x, negative_slope, out=out)",
    "elu": "torch.ops.aten.elu.out(x, alpha, out=out)",
    "swish": "torch.ops.aten.silu.out(x, out=out)",
    "celu": "torch.ops.aten.elu.out(x, alpha, 1, 1 / alpha, out=out)",
    "selu": f"torch.ops.aten.elu.out(x, {SELU}, out=out)",
    "relu6": "torch.ops.aten.hardtanh.out(x, 0, 6, out=out)",
    "threshold": "torch.ops.aten.threshold.out(x, threshold, value, out=out)",
    "hard_tanh": "torch.ops.aten.hardtanh.out(x, min, max, out=out)",
    "hard_sigmoid": "torch.ops.aten.hardsigmoid.out(x, out=out)",
    "hard_swish": "torch.ops.aten.hardswish.out(x, out=out)",
    "soft_shrink": "torch.ops.aten.softshrink.out(x, lambd, out=out)",
    "hard_shrink": "torch.ops.aten.hardshrink.out(x, lambd, out=out)",
    "gelu": "torch.ops.aten.gelu.out(x, out=out)",
    "gelu_tanh": 'torch.ops.aten.gelu.out(x, approximate="tanh", out=out)',
    "mish": "torch.ops.aten.mish.out(x, out=out)",
    "softplus": "torch.ops.aten.softplus.out(x, beta, 20, out=out)",
    "log_sigmoid": "torch.ops.aten.log_sigmoid.out(x, out=out)",
    "softmax": "torch.ops.aten._softmax.out(x, axis, False, out=out)",
    "log_softmax": "torch.ops.aten._log_softmax.out(x, axis, False, out=out)",
}

FORMS = {
    "forward": FORWARD,
    "backward": KEEPS_OUTPUT | KEEPS_INPUT,
    "backward_from_output": KEEPS_OUTPUT | FROM_OUTPUT,
}
