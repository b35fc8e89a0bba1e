"""The command line: output, JSON, errors and exit codes. Nothing here looks at a time."""

import json

import pytest
from typer.testing import CliRunner

from fastact.cli import app
from fastact.cli.storing import contents
from fastact.measure.catalogue import operations


@pytest.fixture
def fastact(tmp_path, monkeypatch):
    """Run a command with a store of its own, 80 columns wide."""
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_list_shows_every_op(fastact):
    result = fastact("list", "--json")
    assert result.exit_code == 0
    assert [op["name"] for op in json.loads(result.stdout)] == list(operations())


@pytest.mark.parametrize("command", ["list", "info"])
def test_tables_fit_in_80_columns(fastact, command):
    result = fastact(command)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["list", "bench", "compile"])
def test_unknown_op_is_one_line_with_close_matches(fastact, command):
    result = fastact(command, "--op", "sigmod")
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "'sigmod'" in line
    assert "sigmoid" in line


def test_a_size_that_is_none_is_one_line(fastact):
    result = fastact("bench", "--size", "many")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "'many'" in line


def test_bench_reports_errors_and_times(fastact):
    options = ["--op", "silu", "--size", "1Ki", "--rounds", "1", "--json"]
    data = json.loads(fastact("bench", *options).stdout)
    (timing, *others) = data["timings"]
    assert timing["op"] == "swish"
    assert timing["shape"] == [1024]
    assert [other["direction"] for other in others] == ["backward"]
    assert {"fastact_serial", "fastact_parallel", "numpy", "copy"} <= set(timing["providers"])
    assert all(v["passed"] for v in data["accuracy"] if v["provider"].startswith("fastact"))
    assert data["machine"]["versions"]["numpy"]


def test_compile_fills_the_store_and_clear_empties_it(fastact, tmp_path):
    options = ["--op", "relu", "--dtype", "float32", "--jobs", "1", "--json"]
    first = json.loads(fastact("compile", *options).stdout)
    second = json.loads(fastact("compile", *options).stdout)
    assert first["compiled"] > 0
    assert second["compiled"] == first["failed"] == 0
    assert second["found"] == first["compiled"] + first["found"]
    foreign = tmp_path / "store" / "notes.txt"
    foreign.write_text("not ours")
    cleared = json.loads(fastact("clear", "--json").stdout)
    assert cleared["deleted"] == second["found"]
    assert contents(tmp_path / "store") == []
    assert foreign.exists()


def test_compile_without_a_usable_store_says_so(fastact, monkeypatch):
    monkeypatch.setenv("FASTACT_CACHE_DIR", "/dev/null/store")
    result = fastact("compile", "--op", "relu")
    assert result.exit_code == 2
    assert "no store" in result.stderr
