"""Every ufunc can be pickled, as NumPy's own can, also to a process that knows nothing yet."""

import pickle

import children
import numpy as np
import pytest

from fastact import pickling


@pytest.mark.parametrize("name", sorted(pickling.makers()))
def test_each_is_found_under_its_name(name):
    made = getattr(pickling, name)
    assert isinstance(made, np.ufunc) and made.__name__ == name
    assert pickle.loads(pickle.dumps(made)) is made


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no_such_ufunc"):
        pickling.no_such_ufunc  # noqa: B018


def test_in_a_new_process():
    packed = pickle.dumps([pickling.elu_with_parameters, pickling.softmax])
    code = f"""
        import pickle
        elu, softmax = pickle.loads({packed!r})
        assert elu(-1.0, 2.0) < -1 and softmax([0.0, 0.0]).tolist() == [0.5, 0.5]
    """
    children.run(code)
