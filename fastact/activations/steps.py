"""The identity and the step functions: nothing to exponentiate, nothing to learn."""

from fastact.activations.record import EXACT, Activation, Parameter
from fastact.numerics.language import scalar, select

THRESHOLD = (Parameter("threshold", 0.0, "where the output jumps; x equal to it counts as above"),)
NEURON = (
    "W. S. McCulloch, W. Pitts, A logical calculus of the ideas immanent in nervous activity, "
    "Bulletin of Mathematical Biophysics 5, 1943"
)
PERCEPTRON = (
    "F. Rosenblatt, The perceptron: a probabilistic model for information storage and "
    "organization in the brain, Psychological Review 65(6), 1958"
)
WIDROW = "B. Widrow, M. E. Hoff, Adaptive switching circuits, IRE WESCON Convention Record 4, 1960"


@scalar
def identity_forward(x):
    return x


@scalar
def one_or_nan(x):
    return select(x != x, x, 1.0)


@scalar
def nan_or(x, threshold, y):
    """y; nan where x or the threshold is nan."""
    return select(x != x, x, select(threshold != threshold, threshold, y))


@scalar
def binary_step_forward(x, threshold):
    return nan_or(x, threshold, select(x >= threshold, 1.0, 0.0))


@scalar
def bipolar_step_forward(x, threshold):
    return nan_or(x, threshold, select(x >= threshold, 1.0, -1.0))


@scalar
def step_grad(x, threshold):
    return nan_or(x, threshold, 0.0)


RECORDS = (
    Activation(
        name="identity",
        summary="The linear activation: returns its input.",
        formula="x",
        derivative="1",
        forward=identity_forward,
        grad=one_or_nan,
        grad_from_output=one_or_nan,
        output_note="none",
        limits=("-inf", "inf"),
        grad_limits=("1.0", "1.0"),
        accuracy=EXACT,
        sources=(WIDROW,),
        numpy="np.positive(x)",
        torch="x.clone()",
        jax="jax.nn.identity(x)",
        use=(
            "Output layer of a regression. Between layers it adds nothing: a chain of linear "
            "layers is one linear layer."
        ),
        odd=True,
    ),
    Activation(
        name="binary_step",
        summary="1 from the threshold on, 0 below it.",
        formula="1 if x >= threshold else 0",
        derivative="0",
        forward=binary_step_forward,
        grad=step_grad,
        grad_from_output=step_grad,
        output_note="none: the derivative is 0 everywhere",
        parameters=THRESHOLD,
        limits=("0.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        kinks=("threshold",),
        kink_note="f(threshold) = 1; the derivative at the jump is taken as 0",
        accuracy=EXACT,
        sources=(NEURON, PERCEPTRON),
        numpy="np.where(x >= threshold, 1.0, 0.0)",
        torch="torch.heaviside(x - threshold, torch.ones_like(x[:1]))",
        jax="jnp.where(x >= threshold, 1.0, 0.0)",
        use=(
            "The first neuron models and hard decisions after training. Its derivative is 0, so "
            "gradient descent cannot train through it."
        ),
    ),
    Activation(
        name="bipolar_step",
        summary="1 from the threshold on, -1 below it.",
        formula="1 if x >= threshold else -1",
        derivative="0",
        forward=bipolar_step_forward,
        grad=step_grad,
        grad_from_output=step_grad,
        output_note="none: the derivative is 0 everywhere",
        parameters=THRESHOLD,
        limits=("-1.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        kinks=("threshold",),
        kink_note="f(threshold) = 1; the derivative at the jump is taken as 0",
        accuracy=EXACT,
        sources=(WIDROW,),
        numpy="np.where(x >= threshold, 1.0, -1.0)",
        torch="torch.where(x >= threshold, 1.0, -1.0)",
        jax="jnp.where(x >= threshold, 1.0, -1.0)",
        use=(
            "Neurons with outputs -1 and 1, as in the Adaline's quantiser. Its derivative is 0, "
            "so gradient descent cannot train through it."
        ),
    ),
)
