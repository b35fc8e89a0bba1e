"""Another library's arrival is noticed when it is imported, and not when it is looked for."""

import sys
from importlib import import_module
from importlib.util import find_spec

from fastact.runtime import arrivals


def test_looking_for_a_module_is_no_import(tmp_path, monkeypatch):
    (tmp_path / "arriving_library.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    arrivals.when_imported("arriving_library", lambda: seen.append("first"))
    arrivals.when_imported("arriving_library", lambda: seen.append("second"))
    assert find_spec("arriving_library").origin == str(tmp_path / "arriving_library.py")
    assert find_spec("arriving_library") and seen == []
    assert import_module("arriving_library").value == 1
    assert seen == ["first", "second"]
    arrivals.when_imported("arriving_library", lambda: seen.append("third"))
    assert seen == ["first", "second", "third"]
    del sys.modules["arriving_library"]
    import_module("arriving_library")
    assert len(seen) == 3


def test_a_module_that_is_not_there_stays_so():
    arrivals.when_imported("no_such_library", list)
    try:
        assert find_spec("no_such_library") is None
    finally:
        arrivals._arrivals.actions.pop("no_such_library")
