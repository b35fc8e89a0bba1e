"""The doctor: each trouble is made up, found, and comes with a way to mend it."""

import json
import sys

import pytest
from typer.testing import CliRunner

from fastact.cli import app
from fastact.cli.doctor import GOOD, NOTE, SLOW
from fastact.measure import machine
from fastact.runtime import state, store

doctor = sys.modules["fastact.cli.doctor"]  # fastact.cli has the command by the same name


def only(check):
    """The diagnoses of a check by topic; everything slow says how to mend it."""
    found = list(check())
    assert all(d.mend for d in found if d.verdict == SLOW)
    return {d.topic: d for d in found}


@pytest.mark.parametrize(
    ("features", "verdict"),
    [
        (["sse4.2", "avx", "avx2", "fma", "avx512f"], GOOD),
        (["sse4.2", "avx", "avx2", "fma"], GOOD),
        (["neon"], GOOD),
        (["sse4.2"], SLOW),
        (["sse4.2", "avx"], SLOW),
        ([], SLOW),
    ],
)
def test_vectors(monkeypatch, features, verdict):
    monkeypatch.setattr(machine, "vector_features", lambda: features)
    assert only(doctor.vectors)["vectors"].verdict == verdict


@pytest.mark.parametrize(
    ("count", "source", "usable", "there", "quota", "verdict", "words"),
    [
        (8, "processors available", 8, 8, None, GOOD, "8"),
        (1, "OMP_NUM_THREADS", 8, 8, None, SLOW, "unset OMP_NUM_THREADS"),
        (8, "processors available", 8, 8, 2.5, SLOW, "FASTACT_NUM_THREADS=2"),
        (16, "OMP_NUM_THREADS", 8, 8, None, SLOW, "FASTACT_NUM_THREADS=8"),
        (4, "processors available", 4, 8, None, NOTE, "4 of 8"),
        (8, "processors available", 8, 8, 8.0, GOOD, "8"),
    ],
)
def test_threads(monkeypatch, count, source, usable, there, quota, verdict, words):
    monkeypatch.setattr(state, "initial_threads", lambda: (count, source))
    monkeypatch.setattr(state, "available_cpus", lambda: usable)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: there)
    monkeypatch.setattr(doctor, "quota", lambda: quota)
    found = only(doctor.threads)["threads"]
    assert found.verdict == verdict and words in found.found + found.mend
    monkeypatch.setattr(state, "HAS_POOL", False)
    assert only(doctor.threads)["threads"].verdict == SLOW


def test_a_container_s_quota(tmp_path):
    file = tmp_path / "cpu.max"
    for text, expected in (("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)):
        file.write_text(text)
        assert doctor.quota(file) == expected
    assert doctor.quota(tmp_path / "none") is None


def test_target(monkeypatch):
    import fastact as fa

    with fa.use_target("serial"):
        assert only(doctor.threads)["target"].verdict == SLOW
    assert "target" not in only(doctor.threads)


def test_store(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "own"))
    empty = only(doctor.kept)["store"]
    assert empty.verdict == NOTE and "fastact compile" in empty.mend
    store.put("something", b"code")
    assert only(doctor.kept)["store"].verdict == GOOD
    monkeypatch.setenv("FASTACT_CACHE_DIR", "/dev/null/store")
    assert "FASTACT_CACHE_DIR" in only(doctor.kept)["store"].mend
    (tmp_path / "own").chmod(0o777)
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "own"))
    assert "writable by other users" in only(doctor.kept)["store"].found


def test_packages(monkeypatch):
    monkeypatch.delenv("NUMBA_OPT", raising=False)
    assert only(doctor.packages)["numba"].verdict == GOOD
    monkeypatch.setattr(doctor, "version", lambda name: {"numba": "0.60.0"}.get(name, "99.1"))
    old = only(doctor.packages)["numba"]
    assert old.verdict == SLOW and "0.60.0" in old.found and "numba>=0.61" in old.mend
    monkeypatch.undo()
    monkeypatch.setenv("NUMBA_OPT", "0")
    assert "unset NUMBA_OPT" in only(doctor.packages)["numba"].mend


def test_versions_are_compared_as_numbers():
    assert doctor.release("0.61.2") > doctor.release("0.9")
    assert doctor.release("2.0rc1") == (2, 0)
    assert doctor.release("unknown") == ()
    assert doctor.needed().get("numba", "0.61") == "0.61"


def test_tbb_is_no_trouble():
    found = only(doctor.tbb)["TBB"]
    assert found.verdict in (GOOD, NOTE) and "own pool" in found.found


def test_subnormals():
    assert only(doctor.subnormals) == {}


@pytest.mark.parametrize(
    ("cuda", "package", "verdict"),
    [(None, False, NOTE), (11_080, True, SLOW), (13_000, False, SLOW), (13_000, True, GOOD)],
)
def test_gpu(monkeypatch, cuda, package, verdict):
    monkeypatch.setattr(doctor, "driver", lambda: cuda)
    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if package else None)
    monkeypatch.setattr(doctor.Path, "exists", lambda self: False)
    assert only(doctor.gpu)["GPU"].verdict == verdict


def test_a_gpu_whose_driver_does_not_load(monkeypatch):
    monkeypatch.setattr(doctor, "driver", lambda: None)
    monkeypatch.setattr(doctor.Path, "exists", lambda self: str(self) == "/dev/nvidia0")
    assert "libcuda.so.1" in only(doctor.gpu)["GPU"].mend


def test_command(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")
    fine = [doctor.Diagnosis("a", GOOD, "well")]
    ill = [*fine, doctor.Diagnosis("b", SLOW, "broken", "mend it")]
    for found, status, words in ((fine, 0, "nothing slows"), (ill, 1, "1 thing slows")):
        monkeypatch.setattr(doctor, "CHECKS", (lambda found=found: iter(found),))
        result = CliRunner().invoke(app, ["doctor"])
        assert result.exit_code == status and words in result.stdout
        assert ("→ mend it" in result.stdout) == bool(status)
        as_json = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
        assert [d["verdict"] for d in as_json] == [d.verdict for d in found]


def test_on_this_machine(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code in (0, 1)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert {"vectors", "threads", "store", "numba", "TBB", "GPU"} <= set(result.stdout.split())


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("compiled", GOOD), ("in Python; fastact.torch.build() compiles them", NOTE)],
)
def test_torch_calls(monkeypatch, status, verdict):
    monkeypatch.setattr(doctor.native, "status", lambda: status)
    monkeypatch.setattr(doctor.native, "torch_folder", lambda: "there")
    found = only(doctor.torch_calls)["PyTorch"]
    assert found.verdict == verdict and (verdict == GOOD or "ft.build()" in found.mend)
    monkeypatch.setattr(doctor.native, "torch_folder", lambda: None)
    assert not only(doctor.torch_calls)
