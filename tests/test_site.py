"""The documentation site: it builds, pages load in a browser, pictures show, search works."""

import html
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastact as fa

ROOT = Path(__file__).parent.parent
NEEDED = ("mkdocs", "material", "mkdocstrings", "matplotlib", "sklearn")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGES = ("index", "tour", "lab", "gradient_descent", "embedding", "accuracy", "api/index")
SEARCHED = "steepness"

# Loads every page in a frame and tells what a visitor would see; then searches.
PROBE = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, word = "%s", lines = [];
const wait = ms => new Promise(done => setTimeout(done, ms));
async function until(test, ms) {
  for (let t = 0; t < ms; t += 100) { const r = test(); if (r) return r; await wait(100); }
  return null;
}
async function open(page) {
  const frame = document.createElement("iframe");
  frame.width = 1200; frame.height = 800; frame.src = page;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  return frame;
}
async function main() {
  for (const page of pages) {
    const frame = await open(page), d = frame.contentDocument;
    const pictures = [...d.querySelectorAll("article img")];
    pictures.forEach(p => p.loading = "eager");
    await until(() => pictures.every(p => p.complete), 5000);
    const shown = pictures.filter(p => p.naturalWidth > 100).length;
    const title = d.querySelector("h1") ? d.querySelector("h1").firstChild.textContent : "";
    lines.push(["page", page, title.trim(), pictures.length, shown].join("|"));
    frame.remove();
  }
  const frame = await open("index.html"), d = frame.contentDocument;
  const input = await until(() => d.querySelector("input.md-search__input"), 5000);
  d.querySelector("#__search").click();
  input.focus();
  input.value = word;
  for (const kind of ["focus", "keyup", "input", "change"])
    input.dispatchEvent(new frame.contentWindow.Event(kind, {bubbles: true}));
  await until(() => d.querySelector(".md-search-result__link"), 20000);
  const found = [...d.querySelectorAll(".md-search-result__link")].map(a => a.getAttribute("href"));
  lines.push("found|" + found.join("|"));
  return lines.join("\\n");
}
main().catch(e => "failed: " + e).then(text => fetch("told", {method: "POST", body: text}));
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: that of ci/check.sh, or one built here."""
    made = os.environ.get("FASTACT_SITE")
    if made:
        return Path(made)
    for package in NEEDED:
        if not find_spec(package):
            pytest.skip(f"needs {package}")
    folder = tmp_path_factory.mktemp("site")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_op_has_its_pages(site):
    for name in fa.names():
        reference = (site / "api" / f"{name}.html").read_text()
        assert f'id="{name}"' in reference and "Raises" in reference
        gallery = (site / "gallery" / f"{name}.html").read_text()
        assert f'href="../api/{name}.html"' in gallery


def test_markers_are_filled(site):
    for page in PAGES:
        text = (site / f"{page}.html").read_text()
        assert not re.search(r"<!-- (table|lab|error|source|readme):", text)
    lab = (site / "lab.html").read_text()
    assert "Through 20 layers of sigmoid" in lab and lab.count("<table>") == 4
    assert "fa.tanh_backward" in (site / "gradient_descent.html").read_text()
    assert "saturation" in (site / "api" / "index.html").read_text()


def test_links_and_pictures_exist(site):
    """Also those of raw HTML, which mkdocs does not look at."""
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for target in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            if not target.startswith(("http", "data:", "mailto:")):
                assert (page.parent / html.unescape(target)).exists(), f"{page}: {target}"


class Site(SimpleHTTPRequestHandler):
    """Serves the site, and takes what the probe tells."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.server.told.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def server(site):
    """The site, with the probe beside it."""
    pages = [f"{p}.html" for p in PAGES]
    pages += ["gallery/index.html", *(f"gallery/{n}.html" for n in ("sigmoid", "swish", "softmax"))]
    (site / "probe.html").write_text(PROBE % (pages, SEARCHED), encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(site)))
    server.told = queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    (site / "probe.html").unlink()


def test_in_a_browser(server, tmp_path):
    browser = next((path for b in BROWSERS if (path := shutil.which(b))), None)
    if browser is None:
        pytest.skip("no browser")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    address = f"http://127.0.0.1:{server.server_port}/probe.html"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={tmp_path}", address], stdout=log, stderr=log
        )
        try:
            told = server.told.get(timeout=120)
        except queue.Empty:
            pytest.fail("the browser told nothing: " + (tmp_path / "log").read_text()[-2000:])
        finally:
            process.terminate()
            process.wait()
    lines = [line.split("|") for line in told.splitlines()]
    pages = {line[1]: line[2:] for line in lines if line[0] == "page"}
    assert len(pages) == len(PAGES) + 4, told
    for page, (title, pictures, shown) in pages.items():
        assert title, page
        assert pictures == shown, page
    assert int(pages["gallery/swish.html"][1]) == 2 and int(pages["lab.html"][1]) == 4
    (found,) = (line[1:] for line in lines if line[0] == "found")
    assert any("bipolar_sigmoid" in link for link in found), told
