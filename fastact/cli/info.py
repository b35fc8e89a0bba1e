"""`fastact info`: versions, processor, threads, the store and the GPU."""

from __future__ import annotations

import os
from typing import Any

import fastact as fa
from fastact.cli.options import Json, print_grid, show_json
from fastact.cli.storing import contents
from fastact.interop.torch import native
from fastact.measure import machine
from fastact.runtime import state, store


def gathered() -> dict[str, Any]:
    """All that is to be told, as plain data."""
    root = store.root()
    files = contents(root)
    usable = store.folder() is not None
    return {
        "versions": machine.versions(),
        "cpu": {
            "name": machine.cpu_name(),
            "architecture": machine.architecture(),
            "features": machine.vector_features(),
            "cores": os.cpu_count(),
        },
        "threads": {
            "count": fa.get_num_threads(),
            "chosen_by": state.initial_threads()[1],
            "pool": state.HAS_POOL,
            "target": fa.get_target(),
        },
        "store": {
            "location": str(root) if root else None,
            "usable": usable,
            "problem": "" if usable or root is None else store.problem(root),
            "objects": len(files),
            "bytes": sum(file.stat().st_size for file in files),
        },
        "gpu": gpu(),
        "torch": {"calls": native.status()},
    }


def gpu() -> dict[str, Any]:
    """Whether there is a GPU to compute on; which, or what is missing."""
    from fastact.gpu import driver

    if problem := driver.missing():
        return {"available": False, "state": problem}
    found = driver.driver()
    cards = []
    for device in range(found.devices()):
        major, minor = found.capability(device)
        cards.append(f"{found.name(device)} (compute capability {major}.{minor})")
    return {"available": True, "state": ", ".join(cards)}


def lines(data: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as lines of text."""
    cpu, threads, stored = data["cpu"], data["threads"], data["store"]
    versions = [f"{name} {number}" for name, number in data["versions"].items() if number]
    missing = [name for name, number in data["versions"].items() if not number]
    pool = "own pool" if threads["pool"] else "no POSIX threads on this system: serial"
    where = stored["location"] or "none: no user cache folder on this system"
    if not stored["usable"]:
        where += f" (not used: {stored['problem'] or 'not writable'})"
    return [
        ("versions", ", ".join(versions)),
        ("not installed", ", ".join(missing) or "-"),
        ("processor", f"{cpu['name']} ({cpu['architecture']}), {cpu['cores']} cores"),
        ("features used", " ".join(cpu["features"]) or "baseline"),
        ("threads", f"{threads['count']}, from {threads['chosen_by']}; {pool}"),
        ("target", threads["target"]),
        ("store", where),
        ("stored", f"{stored['objects']} objects, {stored['bytes'] / 1e6:.1f} MB"),
        ("GPU", data["gpu"]["state"]),
        ("PyTorch calls", data["torch"]["calls"]),
    ]


def info(as_json: Json = False) -> None:
    """Show versions, processor, threads, the store of compiled code, and the GPU."""
    data = gathered()
    if as_json:
        show_json(data)
    else:
        print_grid(lines(data))
