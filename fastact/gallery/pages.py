"""The pages as Markdown, from the records and what `bench/results.json` holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import fastact as fa
from fastact.gallery import facts
from fastact.measure.catalogue import directions_of
from fastact.measure.display import ACCURACY_COLUMNS, error, number, times
from fastact.measure.results import PEERS, Timing
from fastact.plotting.curves import family, is_elementwise
from fastact.plotting.figures import drawable, is_pair, is_row

MADE = "<!-- made by `fastact gallery`; do not edit -->"
IN_CACHE = 16 << 10
UNMEASURED = "Not measured yet: `fastact bench --op {name}` does it here and now."


def table(header: Iterable[str], rows: Iterable[Iterable[str]], numbers: bool = True) -> list[str]:
    """A Markdown table, numbers to the right; nothing without rows."""
    header, rows = list(header), [list(r) for r in rows]
    if not rows:
        return []
    lines = [header, ["---", *["--:" if numbers else "---"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def cell(text: str) -> str:
    return text.replace("|", r"\|")


def titles() -> list[tuple[str, list[str]]]:
    """The ops by kind, in the order of `fastact.names()`."""
    groups: dict[str, list[str]] = {
        "Of each element": [],
        "Of two arrays": [],
        "Along an axis": [],
        "Losses and others": [],
    }
    elementwise, paired, along, other = groups
    for name in fa.names():
        if is_elementwise(name):
            kind = elementwise
        elif is_pair(name):
            kind = paired
        else:
            kind = along if is_row(name) else other
        groups[kind].append(name)
    return [(kind, names) for kind, names in groups.items() if names]


def pictures_of(name: str) -> dict[str, dict[str, Any]]:
    """The pictures of an op: their file names, and what `fastact.plot` draws them from."""
    if not drawable(name):
        return {}
    found: dict[str, dict[str, Any]] = {name: {}}
    if has_family(name):
        found[f"{name}-family"] = {"family": True}
    return found


def has_family(name: str) -> bool:
    """Whether an op has a parameter whose values show something."""
    return is_elementwise(name) and bool(fa.get(name).record.parameters) and bool(family(name))


def definition(name: str) -> Iterator[str]:
    """Formula, derivative, parameters, values at the ends and at kinks."""
    record = fa.get(name).record
    yield f"    f(x)  = {record.formula}"
    if hasattr(record, "derivative"):
        yield f"    f'(x) = {record.derivative}"
    yield ""
    if getattr(record, "parameters", ()):
        yield from table(
            ("parameter", "default", "meaning"),
            ((f"`{p.name}`", f"{p.default:g}", cell(p.meaning)) for p in record.parameters),
            numbers=False,
        )
        yield ""
    if not is_elementwise(name):
        return
    f = facts.facts(name)
    ends = [f"f(−∞) = {facts.number(f.limits[0])}", f"f(∞) = {facts.number(f.limits[1])}"]
    ends += [f"f′(−∞) = {facts.number(f.slope_limits[0])}"]
    ends += [f"f′(∞) = {facts.number(f.slope_limits[1])}"]
    yield f"* Limits: {', '.join(e for e in ends if 'nan' not in e)}."
    if record.kinks:
        at = ", ".join(f"`{k}`" for k in record.kinks)
        yield f"* Kinks at x = {at}: {record.kink_note.rstrip('.')}."
    yield gains(name)
    yield ""


def gains(name: str) -> str:
    """The gain, both ways, where there is one."""
    parts = []
    for derivative, words in ((False, "keeps the signal's size"), (True, "the gradient's")):
        try:
            parts.append(f"{fa.gain(name, derivative):.4f} {words}")
        except ValueError:
            continue
    return f"* Gain: {', '.join(parts)}." if parts else ""


def judgement(name: str) -> Iterator[str]:
    """Use, strengths and weaknesses."""
    record = fa.get(name).record
    if record.use:
        yield from ("## Use", "", record.use, "")
    if is_elementwise(name):
        for title, rules in (("Strengths", facts.STRENGTHS), ("Weaknesses", facts.WEAKNESSES)):
            said = facts.told(rules, name)
            if said:
                yield from (f"## {title}", "", *(f"* {s}" for s in said), "")


def stated(name: str) -> list[str]:
    """The largest errors that the record states."""
    rows = []
    for dtype, value in getattr(fa.get(name).record, "accuracy", {}).items():
        if hasattr(value, "forward"):
            rows.append((dtype, f"{value.forward:g}", f"{value.grad:g}"))
        else:
            rows.append((dtype, f"{value:g}", "-"))
    return table(("ULP, at most", "forward", "derivative"), rows)


def measured(name: str, results: dict[str, Any]) -> list[str]:
    """The largest errors measured, beside others'."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for v in results.get("accuracy", ()):
        if v["op"] == name and v["direction"] in ("forward", "backward"):
            cells = found.setdefault((v["direction"], v["dtype"]), {})
            for column, providers in ACCURACY_COLUMNS.items():
                if v["provider"] in providers:
                    cells[column] = max(v["ulp"], cells.get(column, 0.0))
    shown = [k for k in found if k[1] in ("float32", "float64")]
    rows = (
        [
            f"{direction}, {dtype}",
            *(error(found[direction, dtype].get(c)) for c in ACCURACY_COLUMNS),
        ]
        for direction, dtype in shown
    )
    return table(("ULP, measured", *ACCURACY_COLUMNS), rows)


def speeds(name: str, results: dict[str, Any]) -> list[str]:
    """Times of fastact, and of others as multiples."""
    found = [Timing.from_data(t) for t in results.get("timings", ()) if t["op"] == name]
    chosen = [
        t
        for t in found
        if t.case.dtype == "float32" and t.case.size == IN_CACHE and t.case.axis != 0
    ]
    rows = (
        [
            f"{t.case.direction}, {t.case.label}" if t.case.axis else t.case.direction,
            number(t.nanoseconds(t.ours)),
            *(times(t.ratio(peer)) for peer in PEERS if peer != "copy"),
        ]
        for t in chosen
    )
    return table(("float32, in cache, one thread", "ns", *(p for p in PEERS if p != "copy")), rows)


def sentence(text: str) -> str:
    """A note as a sentence: its first word capitalised, unless it is a name."""
    first = text.split()[0].rstrip(",")
    if len(first) > 1 and first.isalpha() and first not in fa.names():
        text = text[0].upper() + text[1:]
    return text.rstrip(".") + "."


def calls(name: str) -> Iterator[str]:
    """The public functions."""
    yield from ("## Calls", "")
    yield ", ".join(f"`fa.{name}{suffix}`" for suffix in suffixes(name)) + "."
    aliases = getattr(fa.get(name).record, "aliases", ())
    if aliases:
        yield f"Also known as {', '.join(f'`{a}`' for a in aliases)}."
    yield ""


def suffixes(name: str) -> list[str]:
    from fastact.activations.directions import DIRECTIONS

    return [DIRECTIONS[d].suffix for d in directions_of(name)]


def page(name: str, results: dict[str, Any]) -> str:
    """The page of one op."""
    record = fa.get(name).record
    lines = [MADE, "", f"# {name}", "", record.summary, ""]
    for file in pictures_of(name):
        shows = (
            f"Values of a parameter of {name}" if file.endswith("-family") else f"Graph of {name}"
        )
        lines += [f"![{shows}](pictures/{file}.svg)", ""]
    lines += [*definition(name), *judgement(name)]
    note = getattr(record, "stable_note", "")
    if note:
        lines += ["## How it is computed", "", sentence(note), ""]
    lines += ["## Accuracy", "", *stated(name), ""]
    beside = measured(name, results)
    lines += [*(beside or [UNMEASURED.format(name=name)]), ""]
    fast = speeds(name, results)
    if fast:
        lines += ["## Speed", "", *fast, ""]
        lines += ["Others as multiples of fastact's time; below 1 they are faster.", ""]
    lines += calls(name)
    lines += ["## Sources", "", *(f"* {s}" for s in record.sources), ""]
    return squeezed(lines)


def squeezed(lines: Iterable[str]) -> str:
    """Lines as text, without empty lines in a row."""
    kept: list[str] = []
    for text in lines:
        if text or (kept and kept[-1]):
            kept.append(text.rstrip())
    return "\n".join(kept).rstrip() + "\n"


def index() -> str:
    """The overview of all ops."""
    lines = [
        MADE,
        "",
        "# Gallery",
        "",
        "Every op of fastact, with its graph, its derivative and what to know",
        "",
    ]
    lines[-2] = "Every op with its graph, its derivative, and what it does to training."
    lines += ["![How the sigmoids are related](pictures/sigmoids.svg)", ""]
    for kind, names in titles():
        lines += [f"## {kind}", ""]
        rows = (
            (f"[{n}]({n}.md)", f"`{cell(fa.get(n).formula)}`", cell(fa.get(n).summary))
            for n in names
        )
        lines += [*table(("op", "formula", "what it is"), rows, numbers=False), ""]
    return squeezed(lines)
