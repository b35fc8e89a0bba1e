"""What the interpreter reports. Each kind is an exception of its own, so that a test names it."""


class Fault(Exception):  # noqa: N818 (each is named for what happened)
    """An instruction did what it must not do."""


class UnknownInstruction(Fault):
    """Not in the tables: the interpreter would have to guess."""


class OutOfBounds(Fault):
    """An address in no buffer."""


class Misaligned(Fault):
    """An address that is no multiple of the access size."""


class ReadOnly(Fault):
    """A store into an operand that is an input."""


class Uninitialised(Fault):
    """A register or a byte of memory read before anything wrote it."""


class Unwritten(Fault):
    """An output that the kernel did not write."""


class Race(Fault):
    """Two threads met in one byte of shared memory with no barrier in between."""


class BarrierFault(Fault):
    """Not every thread of the block reached the same barrier."""


class ShuffleFault(Fault):
    """A lane that the mask names, or that is read from, does not take part."""
