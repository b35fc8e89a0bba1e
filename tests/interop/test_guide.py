"""The guide in the README: every block of it runs, in a process of its own."""

import importlib.util
import re

import children
import pytest

README = (children.ROOT / "README.md").read_text()
GUIDE = re.search(r"^## Inside other people's code\n(.*?)^## ", README, re.M | re.S)[1]
BLOCKS = re.findall(r"^```python\n# needs: (.*?)\n(.*?)^```", GUIDE, re.M | re.S)


def test_every_block_says_what_it_needs():
    assert len(BLOCKS) == GUIDE.count("```python") >= 3


@pytest.mark.parametrize(("needs", "code"), BLOCKS, ids=[needs for needs, _ in BLOCKS])
def test_block(needs, code):
    for library in needs.split(", "):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    children.run("import warnings\nwarnings.simplefilter('default')\n" + code)
