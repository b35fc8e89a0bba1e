"""Shrinkage: small inputs become 0, large ones are kept or moved towards it."""

from fastact.activations.record import EXACT, Accuracy, Activation, Parameter
from fastact.numerics.language import copysign, scalar, select


@scalar
def outside(x, lambd, y):
    """y for |x| > lambd, 0 with the sign of x within; nan for nan."""
    return select(abs(x) > lambd, y, 0.0 * x)


@scalar
def soft_shrink_forward(x, lambd):
    return outside(x, lambd, x - copysign(lambd, x))


@scalar
def soft_shrink_lambd_grad(x, lambd):
    return outside(x, lambd, -copysign(1.0, x))


@scalar
def hard_shrink_forward(x, lambd):
    return outside(x, lambd, x)


@scalar
def shrink_grad(x, lambd):
    return select(abs(x) > lambd, 1.0, select(abs(x) <= lambd, 0.0, x))


@scalar
def shrink_grad_from_output(y, lambd):
    return select(y == 0.0, 0.0, select(y == y, 1.0, y))


DONOHO = (
    "D. L. Donoho, I. M. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika "
    "81(3), 1994"
)
BECK = (
    "A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse "
    "problems, SIAM Journal on Imaging Sciences 2(1), 2009"
)

RECORDS = (
    Activation(
        name="soft_shrink",
        aliases=("softshrink",),
        summary="Moves the input towards 0 by lambd; what is nearer becomes 0.",
        formula="x - lambd if x > lambd else x + lambd if x < -lambd else 0",
        derivative="1 if |x| > lambd else 0",
        forward=soft_shrink_forward,
        grad=shrink_grad,
        grad_from_output=shrink_grad_from_output,
        output_note="none",
        parameters=(Parameter("lambd", 0.5, "how far inputs are moved", "nonnegative"),),
        parameter_grads={"lambd": soft_shrink_lambd_grad},
        limits=("-inf", "inf"),
        grad_limits=("1.0", "1.0"),
        kinks=("-lambd", "lambd"),
        kink_note="the derivative at both is taken as 0",
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(DONOHO, BECK),
        numpy="np.maximum(x - lambd, 0) + np.minimum(x + lambd, 0)",
        torch="F.softshrink(x, lambd)",
        jax="jnp.sign(x) * jax.nn.relu(jnp.abs(x) - lambd)",
        use=(
            "Sparse codes and denoising: the proximal step of an L1 penalty. Inputs within lambd "
            "of 0 pass no gradient."
        ),
        odd=True,
    ),
    Activation(
        name="hard_shrink",
        aliases=("hardshrink",),
        summary="Inputs within lambd of 0 become 0, the others stay as they are.",
        formula="x if |x| > lambd else 0",
        derivative="1 if |x| > lambd else 0",
        forward=hard_shrink_forward,
        grad=shrink_grad,
        grad_from_output=shrink_grad_from_output,
        output_note="none",
        parameters=(Parameter("lambd", 0.5, "inputs up to this size become 0", "nonnegative"),),
        limits=("-inf", "inf"),
        grad_limits=("1.0", "1.0"),
        kinks=("-lambd", "lambd"),
        kink_note="value and derivative at both are taken as 0",
        accuracy=EXACT,
        sources=(DONOHO,),
        numpy="np.where(np.abs(x) > lambd, x, 0 * x)",
        torch="F.hardshrink(x, lambd)",
        jax="jnp.where(jnp.abs(x) > lambd, x, 0.0)",
        use=(
            "Sparse codes without the bias of soft_shrink; the output jumps at lambd, and what is "
            "cut off learns nothing."
        ),
        odd=True,
    ),
)
