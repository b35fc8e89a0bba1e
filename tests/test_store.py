"""The object store: shared by processes, safe to lose, never trusted blindly."""

import os
import re
import shutil
import stat
from textwrap import dedent as dedented

import children
import pytest

LIMIT = 120
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX permissions")

# Compiling needs numba; a loaded kernel does not. So this tells where the code came from.
SIGMOID = """
    import sys
    import numpy as np
    import fastact as fa
    assert fa.sigmoid(np.zeros(3, np.float32)).tolist() == [0.5, 0.5, 0.5]
    assert fa.tanh(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    print("compiled" if "numba" in sys.modules else "loaded")
"""


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    return folder


def use(place, code=SIGMOID, **env):
    return children.run(code, {"FASTACT_CACHE_DIR": str(place), **env}, LIMIT).strip()


def objects(place):
    return sorted(p for p in place.rglob("*") if p.is_file())


def test_second_process_loads_without_numba(place):
    assert use(place) == "compiled"
    before = {p: p.read_bytes() for p in objects(place)}
    assert len(before) >= 3  # the engine, sigmoid, tanh
    assert use(place) == "loaded"
    assert {p: p.read_bytes() for p in objects(place)} == before


def test_import_is_light(place):
    """Importing compiles nothing, writes nothing and loads neither numba nor llvmlite."""
    code = """
        import sys
        import fastact as fa
        heavy = {"numba", "llvmlite", "scipy", "torch", "ml_dtypes", "typer", "rich"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert use(place, code) == "[]"
    assert objects(place) == []
    missing = place / "not" / "there"
    assert use(missing, code) == "[]"
    assert not missing.exists()


def test_making_functions_is_light(place):
    code = """
        import sys
        import fastact as fa
        functions = [getattr(fa, name) for name in fa.__all__]
        print(len(functions) > 50, "numba" in sys.modules)
    """
    assert use(place, code) == "True False"
    assert objects(place) == []


@posix
def test_folders_are_private(tmp_path):
    """Made by us: nobody else may look or write, whatever the umask."""
    place = tmp_path / "a" / "b"
    assert use(place, "import os; os.umask(0)\n" + dedented(SIGMOID)) == "compiled"
    made = [place, *(p for p in place.rglob("*") if p.is_dir())]
    assert len(made) >= 2
    assert {stat.S_IMODE(p.stat().st_mode) for p in made} == {0o700}
    assert all(stat.S_IMODE(p.stat().st_mode) & 0o077 == 0 for p in objects(place))
    assert use(place) == "loaded"


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_folder_that_others_can_write_is_refused(place, mode):
    assert use(place) == "compiled"
    place.chmod(mode)
    before = {p: p.stat().st_mtime_ns for p in objects(place)}
    assert use(place) == "compiled"
    assert {p: p.stat().st_mtime_ns for p in objects(place)} == before
    place.chmod(0o700)
    assert use(place) == "loaded"


@posix
def test_key_folder_that_others_can_write_is_refused(place):
    assert use(place) == "compiled"
    (inner,) = (p for p in place.iterdir() if p.is_dir())
    inner.chmod(0o777)
    assert use(place) == "compiled"


@posix
def test_object_that_others_can_write_is_refused(place):
    assert use(place) == "compiled"
    for p in objects(place):
        p.chmod(0o666)
    assert use(place) == "compiled"
    # compiled anew and replaced by private files
    assert use(place) == "loaded"


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="needs root to chown")
@pytest.mark.parametrize("what", ["folder", "key folder", "objects"])
def test_what_another_user_owns_is_refused(place, what):
    assert use(place) == "compiled"
    (inner,) = (p for p in place.iterdir() if p.is_dir())
    for p in {"folder": [place], "key folder": [inner], "objects": objects(place)}[what]:
        os.chown(p, 12345, -1)
    assert use(place) == "compiled"


@posix
def test_links_are_not_followed(place, tmp_path):
    """An object replaced by a link to another place is not executed."""
    assert use(place) == "compiled"
    for i, p in enumerate(objects(place)):
        p.rename(tmp_path / f"elsewhere-{i}")
        p.symlink_to(tmp_path / f"elsewhere-{i}")
    assert use(place) == "compiled"


def damage(content, how):
    middle = len(content) // 2
    return {
        "empty": b"",
        "truncated": content[:middle],
        "one byte short": content[:-1],
        "header only": content[:32],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "header bit": bytes([content[0] ^ 1]) + content[1:],
        "appended": content + b"x",
        "text": b"not an object at all",
    }[how]


@pytest.mark.parametrize(
    "how",
    ["empty", "truncated", "one byte short", "header only", "one bit", "header bit", "appended",
     "text"],
)  # fmt: skip
def test_damaged_object_is_compiled_again(place, how):
    assert use(place) == "compiled"
    whole = {p: p.read_bytes() for p in objects(place)}
    for p, content in whole.items():
        p.write_bytes(damage(content, how))
    assert use(place) == "compiled"
    assert use(place) == "loaded"


def test_swapped_objects_are_compiled_again(place):
    """Each file is sound, but holds the code of another function."""
    assert use(place) == "compiled"
    sigmoid, tanh = (next(p for p in objects(place) if n in p.name) for n in ("sigmoid", "tanh"))
    a, b = sigmoid.read_bytes(), tanh.read_bytes()
    sigmoid.write_bytes(b)
    tanh.write_bytes(a)
    use(place)  # the results are asserted inside


@posix
def test_read_only_folder(place):
    """Filled and then read-only: loaded from; empty and read-only: compiled in memory."""
    for filled in (False, True):
        if filled:
            place.chmod(0o700)
            assert use(place) == "compiled"
        folders = [place, *(p for p in place.rglob("*") if p.is_dir())]
        for p in folders:
            p.chmod(0o500)
        try:
            # root may write anywhere: then the process gives that up
            outcome = children.run(without_privileges(SIGMOID), {"FASTACT_CACHE_DIR": str(place)})
            assert outcome.strip() == ("loaded" if filled else "compiled")
            assert bool(objects(place)) == filled
        finally:
            for p in folders:
                p.chmod(0o700)


def without_privileges(code):
    """The code with writing made impossible, as for a user who is not root."""
    prelude = """
        import os, tempfile
        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            os.mkdir = tempfile.mkstemp = os.replace = refuse
    """
    return dedented(prelude) + dedented(code)


@pytest.mark.parametrize("kind", ["file", "inside a file", "relative", "null byte free name"])
def test_unusable_place(tmp_path, kind):
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    place = {
        "file": occupied,
        "inside a file": occupied / "below",
        "relative": "some/where",
        "null byte free name": "/proc/none/fastact",
    }[kind]
    assert use(place) == "compiled"
    assert occupied.read_text() == "a file"


def test_full_disk(place):
    code = """
        import os
        real = os.fsync, open
        import builtins, errno
        class Full:
            def __init__(self, file): self.file = file
            def __enter__(self): return self
            def __exit__(self, *_): self.file.close()
            def write(self, _): raise OSError(errno.ENOSPC, "No space left on device")
        original = builtins.open
        def full(file, mode="r", *args, **kwargs):
            opened = original(file, mode, *args, **kwargs)
            return Full(opened) if "w" in mode and isinstance(file, int) else opened
        builtins.open = full
    """
    assert use(place, dedented(code) + dedented(SIGMOID)) == "compiled"
    assert objects(place) == []


def test_no_home(tmp_path):
    """Without HOME and without any cache variable: it computes, wherever it stores."""
    unset = dict.fromkeys(("FASTACT_CACHE_DIR", "HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"))
    env = {**unset, "TMPDIR": str(tmp_path)}
    code = """
        import os
        if hasattr(os, "getuid"):  # a user without an entry in the password file either
            import pwd
            def unknown(uid):
                raise KeyError(uid)
            pwd.getpwuid = unknown
    """
    assert "ed" in children.run(dedented(code) + dedented(SIGMOID), env, LIMIT)


@posix
def test_default_place_is_the_users_cache(tmp_path):
    env = {"FASTACT_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": str(tmp_path)}
    assert children.run(SIGMOID, env, LIMIT).strip() == "compiled"
    assert objects(tmp_path)
    assert all("fastact" in p.relative_to(tmp_path).parts for p in objects(tmp_path))
    assert children.run(SIGMOID, env, LIMIT).strip() == "loaded"


def test_eight_processes_fill_it_at_once(place):
    code = """
        import numpy as np, fastact as fa
        x = np.linspace(-4, 4, 999, dtype=np.float32)
        for f in (fa.sigmoid, fa.tanh, fa.elu, fa.swish, fa.relu_grad, fa.softmax):
            print(f(x).tobytes().hex()[:64], sep="")
    """
    crew = [children.start(code, {"FASTACT_CACHE_DIR": str(place)}) for _ in range(8)]
    outputs = [children.finish(child, 2 * LIMIT) for child in crew]
    assert len(set(outputs)) == 1
    assert not [p for p in objects(place) if p.name.startswith(".")], "temporary files left"
    assert use(place) == "loaded"


CHANGES = {
    "nothing": ("", "loaded"),
    "llvmlite": ("import llvmlite; llvmlite.__version__ = '999.0'", "compiled"),
    "processor": (
        "import fastact.compile.loading as loading; loading.cpu_name = lambda: 'x86-64'",
        "compiled",
    ),
    "features": (
        "import fastact.compile.loading as loading\n"
        "features = loading.cpu_features()\n"
        "loading.cpu_features = lambda: features + ',-fma'",
        "compiled",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_the_code_changes_the_key(place, what):
    assert use(place) == "compiled"
    change, expected = CHANGES[what]
    outcome = use(place, f"import fastact\n{change}\n" + dedented(SIGMOID))
    assert outcome == expected
    assert use(place) == "loaded"


def test_changed_source_is_compiled_again(place, tmp_path):
    """A copy of the package with one file edited does not get the old objects."""
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(children.ROOT / "fastact", copy / "fastact", ignore=ignored)
    head = f"import sys; sys.path.insert(0, {str(copy)!r})\n"
    assert use(place) == "compiled"
    assert use(place, head + dedented(SIGMOID)) == "loaded"
    for name in ("activations/saturating.py", "numerics/language.py", "compile/kernels.py"):
        file = copy / "fastact" / name
        text = file.read_text()
        file.write_text(text + "\n# changed\n")
        assert use(place, head + dedented(SIGMOID)) == "compiled", name
        file.write_text(text)
    assert use(place, head + dedented(SIGMOID)) == "loaded"


def test_changed_numba_is_compiled_again(place, tmp_path):
    """The version of numba is part of the key though numba is not imported."""
    numba = pytest.importorskip("numba")
    assert use(place) == "compiled"
    code = f"""
        import importlib.metadata, importlib.util, pathlib, sys
        real_version, real_read = importlib.metadata.version, pathlib.Path.read_bytes

        def version(name):
            return "999.0" if name == "numba" else real_version(name)

        def read_bytes(path):
            content = real_read(path)
            if path.name == "_version.py" and path.parent.name == "numba":
                return content.replace({numba.__version__!r}.encode(), b"999.0")
            return content

        importlib.metadata.version, pathlib.Path.read_bytes = version, read_bytes
    """
    assert use(place, dedented(code) + dedented(SIGMOID)) == "compiled"
    assert use(place) == "loaded"


def test_no_numba_but_a_filled_store(place):
    """Where numba cannot be imported, stored kernels run and others name what is missing."""
    assert use(place) == "compiled"
    head = "import sys; sys.modules['numba'] = None\n"
    tail = dedented(SIGMOID).replace('"numba" in sys.modules', "False")
    assert use(place, head + tail) == "loaded"
    code = """
        import numpy as np, fastact as fa
        out = np.full(3, 7.0)
        try:
            fa.elu(np.ones(3), out=out)
        except Exception as error:
            print(type(error).__name__, error)
    """
    message = use(place, head + dedented(code))
    assert re.search("numba", message), message
