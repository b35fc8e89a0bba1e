"""The object store: shared by processes, safe to lose, never trusted blindly."""

import os
import shutil
import stat
from textwrap import dedent

import children
import pytest

LIMIT = 120
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX permissions")

# Compiling needs numba, a stored kernel does not: this tells where the code came from.
COMPUTE = dedent("""
    import sys
    import numpy as np
    import fastact as fa
    assert fa.sigmoid(np.zeros(3, np.float32)).tolist() == [0.5, 0.5, 0.5]
    assert fa.relu(np.ones(3, np.float32)).tolist() == [1, 1, 1]
    print("compiled" if "numba" in sys.modules else "loaded")
""")

# The same where numba is installed but cannot be imported: what is not loaded fails.
WITHOUT_NUMBA = dedent("""
    import importlib.machinery, sys

    class Refuse(importlib.machinery.SourceFileLoader):
        def exec_module(self, module):
            raise ImportError("numba is not to be imported")

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name != "numba":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name)
            spec.loader = Refuse(name, spec.origin)
            return spec

    sys.meta_path.insert(0, Finder())
""")
LOAD = WITHOUT_NUMBA + dedent("""
    import numpy as np
    import fastact as fa
    out = np.full(3, 7, np.float32)
    try:
        fa.sigmoid(np.zeros(3, np.float32), out=out)
        assert out.tolist() == [0.5, 0.5, 0.5]
        print("loaded")
    except Exception as error:
        assert "numba is not to be imported" in str(error), error
        assert out.tolist() == [7, 7, 7]
        print("refused")
""")


def use(place, code, **env):
    return children.run(code, {"FASTACT_CACHE_DIR": str(place), **env}, LIMIT).strip()


def objects(place):
    return sorted(p for p in place.rglob("*") if p.is_file())


def key_folder(place):
    (folder,) = (p for p in place.iterdir() if p.is_dir())
    return folder


def kernels(place):
    """The objects of relu and sigmoid, in this order: all but the engine."""
    return [p for p in objects(place) if "relu" in p.name or "sigmoid" in p.name]


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "template"
    folder.mkdir(mode=0o700)
    assert use(folder, COMPUTE) == "compiled"
    return folder


@pytest.fixture
def filled(template, empty):
    """A store of one's own that holds the engine, sigmoid and relu."""
    shutil.copytree(template, empty, dirs_exist_ok=True)
    empty.chmod(0o700)
    return empty


def test_later_processes_load_without_numba(filled):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in objects(filled)}
    assert len(before) >= 3  # the engine, sigmoid, relu
    assert use(filled, COMPUTE) == "loaded"
    assert use(filled, LOAD) == "loaded"
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in objects(filled)} == before


def test_without_numba_the_error_names_it(empty):
    assert use(empty, LOAD) == "refused"


def test_import_is_light(empty):
    """Importing compiles nothing, writes nothing and loads neither numba nor llvmlite."""
    code = """
        import sys
        import fastact as fa
        heavy = {"numba", "llvmlite", "scipy", "torch", "ml_dtypes", "typer", "rich"}
        print(sorted(heavy & set(sys.modules)))
    """
    missing = empty / "not" / "there"
    for place in (empty, missing):
        assert use(place, code) == "[]"
    assert objects(empty) == [] and not missing.exists()


def test_making_functions_is_light(empty):
    code = """
        import sys
        import fastact as fa
        functions = [getattr(fa, name) for name in fa.__all__]
        print(len(functions) > 50, "numba" in sys.modules)
    """
    assert use(empty, code) == "True False"
    assert objects(empty) == []


# The store alone, without a compiler behind it.
PUT = dedent("""
    from fastact.runtime import store
    store.put("name", b"some code")
    print(store.get("name"))
""")
KEPT, NOT_KEPT = "b'some code'", "None"


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_what_we_make_is_private(tmp_path, umask):
    """Nobody else may look or write, whatever the umask."""
    place = tmp_path / "a" / "b"
    assert use(place, f"import os\nos.umask({umask})\n{PUT}") == KEPT
    folders = [place, key_folder(place)]
    modes = [oct(stat.S_IMODE(p.stat().st_mode)) for p in (*folders, *objects(place))]
    assert modes == ["0o700", "0o700", "0o600"]


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777], ids=oct)
@pytest.mark.parametrize("which", ["store", "key folder"])
def test_folder_that_others_can_write_is_refused(filled, which, mode):
    folder = {"store": filled, "key folder": key_folder(filled)}[which]
    folder.chmod(mode)
    assert use(filled, LOAD) == "refused"
    folder.chmod(0o700)
    assert use(filled, LOAD) == "loaded"


@posix
def test_refused_folder_is_not_written(empty):
    empty.chmod(0o777)
    assert use(empty, PUT) == NOT_KEPT
    assert objects(empty) == []


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_object_that_others_can_write_is_refused(filled, mode):
    for p in objects(filled):
        p.chmod(mode)
    assert use(filled, LOAD) == "refused"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to chown")
@pytest.mark.parametrize("what", ["store", "key folder", "objects"])
def test_what_another_user_owns_is_refused(filled, what):
    owned = {"store": [filled], "key folder": [key_folder(filled)], "objects": objects(filled)}
    for p in owned[what]:
        os.chown(p, 12345, -1)
    assert use(filled, LOAD) == "refused"


@posix
@pytest.mark.parametrize("what", ["store", "key folder", "objects"])
def test_links_are_not_followed(filled, what, tmp_path):
    """What was replaced by a link to another place is not executed."""
    linked = {"store": [filled], "key folder": [key_folder(filled)], "objects": objects(filled)}
    for i, p in enumerate(linked[what]):
        elsewhere = tmp_path / f"elsewhere-{i}"
        p.rename(elsewhere)
        p.symlink_to(elsewhere)
    assert use(filled, LOAD) == "refused"


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "no code": lambda content: content[:32],
    "one bit": lambda content: flipped(content, len(content) // 2),
    "first bit": lambda content: flipped(content, 0),
    "last bit": lambda content: flipped(content, len(content) - 1),
    "appended": lambda content: content + b"\\0",
    "text": lambda content: b"not an object at all",
}


def flipped(content, i):
    return content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_object_is_not_executed(filled, how):
    for p in objects(filled):
        p.write_bytes(DAMAGE[how](p.read_bytes()))
    assert use(filled, LOAD) == "refused"


def test_damaged_object_is_compiled_again_and_stored(filled):
    for p in kernels(filled):
        p.write_bytes(p.read_bytes()[:-100])
    assert use(filled, COMPUTE) == "compiled"
    assert use(filled, LOAD) == "loaded"


def test_swapped_objects_are_not_executed(filled):
    """Each file is sound, but holds the code of another function."""
    relu, sigmoid = kernels(filled)
    a, b = sigmoid.read_bytes(), relu.read_bytes()
    sigmoid.write_bytes(b)
    relu.write_bytes(a)
    assert use(filled, COMPUTE) == "compiled"
    assert use(filled, LOAD) == "loaded"


# root may write anywhere: what a read-only folder does to other users is done to it here
READ_ONLY = dedent("""
    import os, tempfile

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.mkdir = tempfile.mkstemp = os.replace = refuse
""")


@posix
def test_read_only_folder(filled):
    """What is there is loaded; what is not is compiled in memory."""
    folders = [filled, key_folder(filled)]
    for p in folders:
        p.chmod(0o500)
    try:
        assert use(filled, READ_ONLY + LOAD) == "loaded"
        before = objects(filled)
        code = COMPUTE.replace("sigmoid", "sigmoid_grad").replace("0.5, 0.5, 0.5", "0.25] * 3 + [")
        assert use(filled, READ_ONLY + code) == "compiled"
        assert objects(filled) == before
    finally:
        for p in folders:
            p.chmod(0o700)


@pytest.mark.parametrize("kind", ["a file", "inside a file", "relative", "no such root"])
def test_unusable_place(tmp_path, kind):
    """Nothing is stored, nothing is read, nothing is raised."""
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    place = {
        "a file": occupied,
        "inside a file": occupied / "below",
        "relative": "some/where",
        "no such root": "/proc/none/fastact",
    }[kind]
    assert use(place, PUT) == NOT_KEPT
    assert occupied.read_text() == "a file" and not os.path.exists("some")


def test_without_a_place_it_computes(tmp_path):
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    assert use(occupied, COMPUTE) == "compiled"


def test_full_disk(empty):
    code = dedent("""
        import builtins, errno

        class Full:
            def __init__(self, file):
                self.file = file
            def __enter__(self):
                return self
            def __exit__(self, *_):
                self.file.close()
            def write(self, content):
                self.file.write(content[:100])
                raise OSError(errno.ENOSPC, "No space left on device")

        original = builtins.open

        def full(file, mode="r", *args, **kwargs):
            opened = original(file, mode, *args, **kwargs)
            return Full(opened) if "w" in mode and isinstance(file, int) else opened

        builtins.open = full
    """)
    assert use(empty, code + PUT) == NOT_KEPT
    assert objects(empty) == []


def test_no_home(tmp_path):
    """Without HOME, a cache variable or an entry in the password file nothing is raised."""
    unset = dict.fromkeys(("FASTACT_CACHE_DIR", "HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"))
    code = dedent("""
        import os
        if hasattr(os, "getuid"):
            import pwd
            def unknown(uid):
                raise KeyError(uid)
            pwd.getpwuid = unknown
    """)
    out = children.run(code + PUT, {**unset, "TMPDIR": str(tmp_path)}, LIMIT)
    assert out.strip() in (KEPT, NOT_KEPT)


@posix
def test_default_place_is_the_users_cache(template, tmp_path):
    env = {"FASTACT_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": str(tmp_path)}
    code = "from fastact.runtime import store; print(store.root())"
    place = children.run(code, env, LIMIT).strip()
    assert place.startswith(f"{tmp_path}{os.sep}") and "fastact" in place
    shutil.copytree(template, place)
    assert children.run(LOAD, env, LIMIT).strip() == "loaded"


def test_eight_processes_fill_it_at_once(filled):
    code = """
        import numpy as np, fastact as fa
        x = np.linspace(-4, 4, 999, dtype=np.float32)
        for f in (fa.sigmoid, fa.relu):
            print(f(x).tobytes().hex())
    """
    for p in kernels(filled):
        p.unlink()
    crew = [children.start(code, {"FASTACT_CACHE_DIR": str(filled)}) for _ in range(8)]
    outputs = [children.finish(child, 2 * LIMIT) for child in crew]
    assert len(set(outputs)) == 1
    assert len(kernels(filled)) == 2
    assert not [p for p in objects(filled) if p.name.startswith(".")], "temporary files left"
    assert use(filled, WITHOUT_NUMBA + dedent(code)) == outputs[0].strip()


def test_process_killed_while_writing(filled):
    """A temporary file that was left behind is not taken for an object."""
    whole = next(p for p in objects(filled) if "sigmoid" in p.name)
    (whole.parent / ".new-abcdef").write_bytes(whole.read_bytes()[:1000])
    assert use(filled, LOAD) == "loaded"


CHANGES = {
    "nothing": ("", "loaded"),
    "llvmlite": ("import llvmlite; llvmlite.__version__ = '999.0'", "refused"),
    "processor": (
        "import fastact.compile.loading as loading; loading.cpu_name = lambda: 'x86-64'",
        "refused",
    ),
    "features": (
        "import fastact.compile.loading as loading\n"
        "features = loading.cpu_features()\n"
        "loading.cpu_features = lambda: features + ',-fma'",
        "refused",
    ),
    "numba": (
        "import pathlib\n"
        "real = pathlib.Path.read_bytes\n"
        "def read_bytes(path):\n"
        "    changed = b'999' if path.match('numba/_version.py') else b''\n"
        "    return changed + real(path)\n"
        "pathlib.Path.read_bytes = read_bytes",
        "refused",
    ),
}


def test_settings_of_numba_are_no_concern_of_the_library(empty):
    # NUMBA_DISABLE_JIT is for the coverage of users' functions; profiling makes Numba warn
    code = """
        import numpy as np, fastact as fa
        x = np.linspace(-2, 2, 100, dtype=np.float32)
        assert 0 < fa.sigmoid(x)[0] < fa.softmax(x)[-1] * 100
        import numba
        print(numba.njit(fa.sigmoid) is fa.sigmoid)
    """
    settings = {"NUMBA_DISABLE_JIT": "1", "NUMBA_ENABLE_PROFILING": "1"}
    assert children.run(code, {"FASTACT_CACHE_DIR": str(empty), **settings}).strip() == "True"


def test_settings_that_change_the_code_change_the_key(filled):
    assert use(filled, f"import os\nos.environ['NUMBA_OPT'] = '0'\n{LOAD}") == "refused"
    assert use(filled, LOAD) == "loaded"


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_the_code_changes_the_key(filled, what):
    change, expected = CHANGES[what]
    assert use(filled, f"{change}\n{LOAD}") == expected
    assert use(filled, LOAD) == "loaded"


def test_changed_source_is_compiled_again(filled, tmp_path):
    """A copy of the package shares the store; with any file edited it does not."""
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(children.ROOT / "fastact", copy / "fastact", ignore=ignored)
    head = f"import sys; sys.path.insert(0, {str(copy)!r})\n"
    assert use(filled, head + LOAD) == "loaded"
    code = dedent(f"""
        import pathlib
        from fastact.runtime import store
        package = pathlib.Path({str(copy / "fastact")!r})
        folders = ("numerics", "activations", "rowwise", "compile")
        files = [file for folder in folders for file in sorted((package / folder).glob("*.py"))]
        keys = {{store.key()}}
        for file in files:
            with file.open("a") as text:
                text.write("\\n# changed\\n")
            store.key.cache_clear()
            keys.add(store.key())
        print(len(files) > 10, len(keys) == 1 + len(files))
    """)
    assert use(filled, head + code) == "True True"
    assert use(filled, head + LOAD) == "refused"
