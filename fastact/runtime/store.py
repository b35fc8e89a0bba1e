"""The object store: compiled kernels on disk, private to the user, safe to lose.

A folder per key (fastact's sources, Numba's and llvmlite's versions, the processor), a file
per object: its SHA-256, then the object code. Nothing is read from, or written to, a place
that somebody else could have written. Whatever goes wrong with the disk, the answer is
"not stored", and the kernel is compiled again in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
SOURCES = ("numerics", "activations", "rowwise", "compile", "cuda")
DIGEST = 32
# What Numba reads from the environment that changes the code it makes: a session that looks
# for a bug with NUMBA_OPT=0 leaves no slow kernels to those after it.
SETTINGS = (
    "FASTACT_TABLES",
    "NUMBA_BOUNDSCHECK",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_DEBUGINFO",
    "NUMBA_ENABLE_AVX",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_OPT",
    "NUMBA_SLP_VECTORIZE",
)


def root() -> Path | None:
    """The folder of the store, whether or not it exists; None if the platform has none."""
    chosen = os.environ.get("FASTACT_CACHE_DIR")
    if not chosen:
        from platformdirs import user_cache_dir

        try:
            chosen = os.path.join(user_cache_dir("fastact", appauthor=False), "objects")
        except RuntimeError:  # no home
            return None
    path = Path(chosen)
    return path if path.is_absolute() else None


@lru_cache(maxsize=1)
def key() -> str:
    """A digest of everything that can change the code that would be compiled."""
    import llvmlite

    from fastact.compile.loading import cpu_features, cpu_name

    parts = [llvmlite.__version__.encode(), cpu_name().encode(), cpu_features().encode()]
    spec = importlib.util.find_spec("numba")
    if spec is not None and spec.origin:
        # Read, not imported: the version is needed in processes that never load Numba.
        parts.append((Path(spec.origin).parent / "_version.py").read_bytes())
    parts += [f"{name}={os.environ.get(name, '')}".encode() for name in SETTINGS]
    for folder in SOURCES:
        for file in sorted((PACKAGE / folder).glob("*.py")):
            parts += [file.name.encode(), file.read_bytes()]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()[:32]


def problem(folder: Path) -> str:
    """Why this folder must not be trusted with code; "" if it may."""
    try:
        status = os.lstat(folder)
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "not a folder"
    if hasattr(os, "geteuid"):
        if status.st_uid != os.geteuid():
            return "owned by another user"
        if status.st_mode & 0o022:
            return "writable by other users"
    return ""


def folder() -> Path | None:
    """The folder of this key, made if need be; None where there is no trustworthy place."""
    try:
        base = root()
        if base is None:
            return None
        place = base / key()
        for made in (base, place):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        return None if problem(base) or problem(place) else place
    except OSError:
        return None


def digest_of(name: str, code: bytes) -> bytes:
    """The digest of an object under its name: one object does not pass for another."""
    return hashlib.sha256(name.encode() + b"\0" + code).digest()


def get(name: str) -> bytes | None:
    """The stored object of this name, if there is a sound one."""
    place = folder()
    if place is None:
        return None
    try:
        descriptor = os.open(place / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
                return None
            content = file.read()
    except OSError:
        return None
    digest, code = content[:DIGEST], content[DIGEST:]
    return code if digest_of(name, code) == digest else None


def put(name: str, code: bytes) -> None:
    """Store an object: complete or not at all."""
    place = folder()
    if place is None:
        return
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".new-")
        with open(descriptor, "wb") as file:
            file.write(digest_of(name, code) + code)
        os.replace(temporary, place / name)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
