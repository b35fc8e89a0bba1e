# cython: language_level=3, boundscheck=False, wraparound=False
"""A recurrence h = f(w h + x), which no array operation can express, around a fastact pointer."""

ctypedef double (*scalar)(double, double) noexcept nogil


def recurrence(size_t address, double[::1] x, double w, double parameter):
    """The last state, after all of x."""
    cdef scalar f = <scalar>address
    cdef double h = 0.0
    cdef Py_ssize_t t
    with nogil:
        for t in range(x.shape[0]):
            h = f(w * h + x[t], parameter)
    return h
