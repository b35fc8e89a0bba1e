"""What mkdocs asks while it builds the site: pages of ops, tables, figures, experiments.

Registered in mkdocs.yml as a hook. In the pages of docs/ it fills these markers:

    <!-- table:NAME -->    a table of measured results, as in the README
    <!-- lab:NAME -->      an experiment of `fastact.lab`, run now: its table, figure and sentence
    <!-- error:OP -->      errors of an op in ULP over the line, measured now
    <!-- source:PATH -->   a file of the repository
    <!-- readme:SLUG -->   a section of the README
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from report_tables import TABLES

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.measure.catalogue import directions_of

ROOT = Path(__file__).resolve().parent.parent
MARKER = re.compile(r"<!-- (table|lab|error|source|readme):([\w./-]+) -->")
UNDERLINED = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", re.MULTILINE)
LISTED = ("Parameters", "Returns", "Raises")


def on_config(config: Any) -> Any:
    """Give every op its place in the navigation."""
    for entry in config.nav:
        for title, folder in (("Gallery", "gallery"), ("API", "api")):
            if isinstance(entry, dict) and title in entry:
                entry[title] = [
                    f"{folder}/index.md",
                    *({n: f"{folder}/{n}.md"} for n in fa.names()),
                ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page of signatures and docstrings per op, and the figures of the markers."""
    for name in fa.names():
        files.append(File.generated(config, f"api/{name}.md", content=reference(name)))
    for path in sorted((ROOT / "docs").glob("*.md")):
        for kind, name in MARKER.findall(path.read_text(encoding="utf-8")):
            if kind in FIGURES:
                FIGURES[kind](name, files, config)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill the markers; link a gallery page with the op's reference."""
    folder, _, file = page.file.src_uri.rpartition("/")
    name = file.removesuffix(".md")
    if folder == "gallery" and name in fa.names():
        link = f"Signatures, arguments and errors: [API of {name}](../api/{name}.md).\n\n## Sources"
        markdown = markdown.replace("## Sources", link)
    return MARKER.sub(lambda m: TEXTS[m[1]](m[2]), markdown)


# The reference


def functions_of(name: str) -> list[str]:
    """The public functions of an op, aliases last."""
    record = fa.get(name).record
    names = (name, *getattr(record, "aliases", ()))
    return [f"{n}{DIRECTIONS[d].suffix}" for n in names for d in directions_of(name)]


def reference(name: str) -> str:
    """The API page of an op."""
    parts = [f"# {name}\n\nGraph, use and accuracy: [gallery](../gallery/{name}.md).\n"]
    for function in functions_of(name):
        made = getattr(fa, function)
        signature = f"fa.{function}{inspect.signature(made)}"
        shown = f"## {function} {{#{function}}}\n\n```python\n{folded(signature)}\n```\n"
        same = made.__name__ != function
        body = f"The same as `fa.{made.__name__}`.\n" if same else formatted(made.__doc__)
        parts.append(f"{shown}\n{body}")
    return "\n".join(parts)


def folded(signature: str) -> str:
    """A signature, an argument to a line if it is long."""
    if len(signature) <= 80:
        return signature
    head, _, rest = signature.partition("(")
    return f"{head}(\n    " + rest.removesuffix(")").replace(", ", ",\n    ") + ",\n)"


def formatted(docstring: str) -> str:
    """A docstring in NumPy's style as Markdown."""
    head, *sections = UNDERLINED.split(inspect.cleandoc(docstring))
    out = [head]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        out.append(f"**{title}**\n")
        if title in LISTED:
            out.append(entries(body))
        elif title == "Examples":
            out.append(f"```pycon\n{body.strip()}\n```\n")
        elif title == "References":
            out.append("\n".join(f"* {line}" for line in references(body)) + "\n")
        else:
            out.append(body)
    return "\n".join(out)


def references(body: str) -> list[str]:
    """The lines of a list of sources: one is folded where the next begins in the middle."""
    joined: list[str] = []
    for line in body.strip().splitlines():
        if joined and not re.search(r"\d{4}[.,;)]?( \(.*\))?$", joined[-1]):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined


def entries(body: str) -> str:
    """`name : kind` with an indented meaning, as a list."""
    out = []
    for block in re.split(r"\n(?=\S)", body.strip("\n")):
        name, *meaning = block.split("\n")
        title, _, kind = name.partition(" : ")
        text = textwrap.dedent("\n".join(meaning)).replace("\n", " ").strip()
        out.append(f"* `{title}`" + (f" ({kind})" if kind else "") + (f": {text}" if text else ""))
    return "\n".join(out) + "\n"


# The markers


def add_figure(figure: Any, uri: str, files: Files, config: Any) -> None:
    import matplotlib as mpl

    from fastact.plotting import showing, style

    with tempfile.TemporaryDirectory() as folder, mpl.rc_context(style.settings(style.LIGHT)):
        path = showing.save(figure, Path(folder) / "figure.svg")
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))


def lab_figure(name: str, files: Files, config: Any) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from fastact.lab import EXPERIMENTS
    from fastact.plotting import style

    finding = FINDINGS[name] = EXPERIMENTS[name]()
    with mpl.rc_context(style.settings(style.LIGHT)):
        figure = Figure(figsize=(10.5, 4.8), layout="constrained")
        finding.draw(figure, style.LIGHT)
    add_figure(figure, f"pictures/lab-{name}.svg", files, config)


def error_figure(name: str, files: Files, config: Any) -> None:
    add_figure(fa.plot(name, error=True, show=False), f"pictures/{name}-error.svg", files, config)


def lab_text(name: str) -> str:
    from fastact.gallery.pages import table

    found = FINDINGS[name]
    rows = "\n".join(table(found.columns, found.rows))
    setting = found.setting[0].upper() + found.setting[1:]
    return f"{found.seen}\n\n![{found.question}](pictures/lab-{name}.svg)\n\n{setting}.\n\n{rows}"


def result_table(name: str) -> str:
    results = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    return TABLES[name](results).replace("](docs/", "](")


def source(path: str) -> str:
    kind = {".py": "python", ".sh": "sh"}.get(Path(path).suffix, "text")
    return f"```{kind}\n{(ROOT / path).read_text(encoding='utf-8')}```"


def section(slug: str) -> str:
    """A section of the README by the words of its heading; its links are the README's own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        if re.sub(r"[^\w ]", "", title).lower().replace(" ", "-") == slug:
            return re.sub(r"\[([^\]]+)\]\((?!http)[^)]*\)", r"\1", body)
    raise KeyError(f"README.md has no section {slug!r}")


FINDINGS: dict[str, Any] = {}
FIGURES = {"lab": lab_figure, "error": error_figure}
TEXTS = {
    "table": result_table,
    "lab": lab_text,
    "error": lambda name: f"![Errors of {name} in ULP](pictures/{name}-error.svg)",
    "source": source,
    "readme": section,
}
