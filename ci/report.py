"""Write the README's tables and the charts from `bench/results.json`.

    python ci/report.py                       tables and charts from the stored results
    python ci/report.py --run                 measure first (ten minutes), and store
    python ci/report.py --accuracy            measure the errors only (a minute), and store
    python ci/report.py --pytest FILE         take the times from pytest-benchmark's JSON
    python ci/report.py --check               only compare: exit status 1 if a table is stale

A table stands in the README between `<!-- table:NAME -->` and `<!-- /table -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from report_tables import TABLES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results.json"
CHARTS = ROOT / "docs"
MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def filled(text: str, results: dict[str, Any]) -> str:
    """The text with every marked table made anew.

    Raises
    ------
    KeyError
        If a marker names no table.
    """

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]](results)}\n\n{match[3]}"

    return MARKED.sub(table, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--run", action="store_true", help="measure, then write")
    mode.add_argument("--accuracy", action="store_true", help="measure errors only, then write")
    mode.add_argument("--pytest", type=Path, metavar="FILE", help="pytest-benchmark's JSON")
    mode.add_argument("--check", action="store_true", help="only check the README's tables")
    options = parser.parse_args()

    if options.run or options.accuracy or options.pytest:
        import report_results

        old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if options.pytest:
            new = report_results.from_pytest(options.pytest)
        else:
            new = report_results.measured() if options.run else report_results.checked_again()
        RESULTS.write_text(json.dumps(old | new, indent=1) + "\n")
    if not RESULTS.exists():
        sys.exit("bench/results.json is missing: run python ci/report.py --run")
    results = json.loads(RESULTS.read_text())
    text = README.read_text()
    fresh = filled(text, results)
    if options.check:
        if fresh != text:
            sys.exit("README.md: tables differ from bench/results.json; run python ci/report.py")
        return
    README.write_text(fresh)

    from report_charts import draw

    draw(results, CHARTS)


if __name__ == "__main__":
    main()
