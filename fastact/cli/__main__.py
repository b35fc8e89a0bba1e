"""`python -m fastact.cli` is `fastact`."""

from fastact.cli import main

main()
