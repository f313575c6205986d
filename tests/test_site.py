"""The documentation: its code runs, and a browser finds no fault with any page."""

import ast
import contextlib
import fcntl
import functools
import http.server
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import jax
import matrix
import pytest

import ctep

ROOT = Path(__file__).parents[1]


def blocks(page):
    """Return the Python code of a page, block by block."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


BLOCKS = blocks("write-your-own.md")
# Each is a script, from its first block to its last.
SCRIPTS = [
    name
    for name in sorted(
        str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")
    )
    if blocks(name)
]
SCRIPTS = ["../README.md", *SCRIPTS]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
browses = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# Faults that a loaded page can tell of itself, its links and its anchors.
LOOK = r"""
(async () => {
  await document.fonts.ready;
  const waiting = ".arithmatex:not(:has(.katex))";
  for (let n = 0; n < 40 && document.querySelector(waiting); n++)
    await new Promise(resolve => setTimeout(resolve, 50));
  const faults = [];
  for (const e of document.querySelectorAll(".arithmatex"))
    if (!e.querySelector(".katex")) faults.push("no formula: " + e.textContent);
  for (const e of document.querySelectorAll(".katex-error"))
    faults.push("bad formula: " + e.textContent);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (/\$\$|\\[(\[]/.test(node.data)
        && !node.parentElement.closest("pre, code, script, style, .katex"))
      faults.push("bare formula: " + node.data.trim().slice(0, 80));
  }
  for (const e of document.querySelectorAll("div.arithmatex"))
    if (e.scrollWidth > e.clientWidth + 1)
      faults.push("cut formula: " + e.textContent.slice(0, 80));
  for (const e of document.images)
    if (!e.complete || !e.naturalWidth) faults.push("no image: " + e.src);
  const links = [...document.querySelectorAll("a[href]")].map(e => e.href);
  const anchors = [...document.querySelectorAll("[id], a[name]")];
  return {faults, links, anchors: anchors.map(e => e.id || e.name)};
})()
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def served(folder):
    """Serve a folder on loopback and give its address."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Browser:
    """Headless Chromium, spoken to in the DevTools protocol over a pair of pipes."""

    # The protocol is spoken on the descriptors 3 and 4.
    START = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
        "os.execv(sys.argv[3], sys.argv[3:])"
    )
    FLAGS = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--window-size=1200,900",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--remote-debugging-pipe",
    )  # fmt: skip

    def __init__(self, profile):
        # High descriptors, so that none of them is 3 or 4.
        ends = [(os.pipe()) for _ in range(2)]
        (read, self.write), (self.read, write) = [
            [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in pair]
            for pair in ends
        ]
        for end in (*ends[0], *ends[1]):
            os.close(end)
        words = [CHROMIUM, *self.FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.START, str(read), str(write), *words],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.count, self.rest, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.write)  # which ends it
        os.close(self.read)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def receive(self):
        while b"\0" not in self.rest:
            part = os.read(self.read, 1 << 20)
            assert part, "the browser has gone"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url):
        """Return faults, links and anchors of a page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        session = session["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable", session)
        self.events.clear()
        self.call("Page.navigate", session, url=url)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(self.receive())
        seen = self.call(
            "Runtime.evaluate", session, expression=LOOK, awaitPromise=True,
            returnByValue=True,
        )["result"]["value"]  # fmt: skip
        own = urllib.parse.urlsplit(url).netloc
        seen["faults"] += [f for e in self.events for f in complaints(e, own)]
        self.call("Target.closeTarget", targetId=target)
        return seen


def complaints(event, own):
    """Yield what an event of the browser says is wrong; `own` is the site's host."""
    method, params = event["method"], event["params"]
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
        words = [
            str(arg.get("value", arg.get("description"))) for arg in params["args"]
        ]
        yield f"console: {' '.join(words)}"
    elif method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        yield f"exception: {details.get('exception', details).get('description')}"
    elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
        yield f"log: {params['entry']['text']} {params['entry'].get('url', '')}"
    elif method == "Network.requestWillBeSent":
        url = urllib.parse.urlsplit(params["request"]["url"])
        if url.scheme not in ("data", "blob") and url.netloc != own:
            yield f"foreign: {url.geturl()}"
    elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
        yield f"status {params['response']['status']}: {params['response']['url']}"
    elif method == "Network.loadingFailed" and not params.get("canceled"):
        yield f"failed: {params['errorText']}"


def faults(folder, profile):
    """Return what is wrong with the pages of a site, page by page."""
    pages = sorted(folder.rglob("*.html"))
    found, anchors, links = {}, {}, {}
    with served(folder) as home, Browser(profile) as browser:
        for page in pages:
            name = str(page.relative_to(folder)).removesuffix("index.html")
            seen = browser.open(home + name)
            found[name], links[name] = seen["faults"], set(seen["links"])
            anchors[home + name] = set(seen["anchors"]) | {""}
    for name, urls in links.items():
        for url in sorted(url for url in urls if url.startswith(home)):
            page, _, anchor = url.partition("#")
            path = urllib.parse.unquote(page.removeprefix(home).partition("?")[0])
            page = home + path.removesuffix("index.html")
            file = folder / path / "index.html" if path[-1:] in ("", "/") else None
            if not (file or folder / path).is_file():
                found[name].append(f"broken link: {path}")
            elif page in anchors and urllib.parse.unquote(anchor) not in anchors[page]:
                found[name].append(f"broken anchor: {path}#{anchor}")
    return {name: problems for name, problems in found.items() if problems}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the built documentation."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", folder], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@browses
def test_every_page_is_sound(site, tmp_path):
    """No page has errors, missing parts, bare formulas, dead links or foreign parts."""
    assert len(list(site.rglob("*.html"))) > 20
    assert faults(site, tmp_path) == {}


BAD = """<!doctype html><title>bad</title><link rel="icon" href="data:,">
<p id="here">$$x$$ and \\(y\\), but <code>$$z$$</code></p>
<span class="arithmatex">\\(w\\)</span> <span class="katex-error">\\frac</span>
<div class="arithmatex" style="width:9px;overflow:auto"><b class="katex">wide</b></div>
<img src="none.png"> <a href="nowhere/">1</a>
<a href="#there">2</a> <a href="#here">3</a>
<script src="http://elsewhere.invalid/a.js"></script>
<script>console.error("loud"); undefined.field</script>
"""


@browses
def test_a_bad_page_is_found_out(tmp_path):
    """Each kind of fault is reported; what is allowed is not."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "index.html").write_text(BAD)
    found = faults(tmp_path / "bad", tmp_path / "profile")
    text = "\n".join(found[""])
    for wanted in (
        "no formula: \\(w\\)", "cut formula: wide", "bad formula: \\frac",
        "bare formula: $$x$$ and",
        "no image: ", "status 404: ", "console: loud", "exception: TypeError",
        "foreign: http://elsewhere.invalid/a.js", "broken link: nowhere/",
        "broken anchor: #there",
    ):  # fmt: skip
        assert wanted in text
    assert "$$z$$" not in text
    assert "#here" not in text


@matrix.campaign
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="no mkdocs")
@pytest.mark.parametrize("word", ["plot", "regression", "notebook", "early", "resume"])
def test_search_finds(site, word):
    """What a newcomer would type leads to a page that is about it."""
    index = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    text = [f"{entry['title']} {entry['text']}".lower() for entry in index]
    assert any(re.search(rf"\b{word}", entry) for entry in text)


def test_every_cited_paper_is_listed():
    """Oracle: what docstrings, pages and examples cite by arXiv number or DOI."""
    code = [p for part in ("ctep", "examples") for p in (ROOT / part).rglob("*.py")]
    texts = [*code, *(ROOT / "docs").rglob("*.md")]
    number = re.compile(r"(?:arXiv:|abs/|doi:)(\d{4}\.\d{5}|10\.[\w./-]+\w)")
    cited = {n for path in texts for n in number.findall(path.read_text())}
    listed = (ROOT / "docs" / "references.md").read_text()
    assert len(cited) > 8
    assert {n for n in cited if n not in listed} == set()


@pytest.mark.parametrize("module", [ctep, ctep.analysis, ctep.data])
def test_every_public_name_is_documented(module):
    """Each has its entry on a page of the API."""
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "api").glob("*.md"))
    entries = set(re.findall(r"^::: (\S+)$", pages, re.M))
    public = {
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert len(public) >= 3
    assert public - entries == set()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_code_of_your_own_runs(block):
    """Each example of the page by itself, and none is long."""
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 20
    exec(compile(block, "write-your-own.md", "exec"), {})


@matrix.parametrize("page", SCRIPTS, ["systems/fre-rnn.md"])
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """In an empty folder, with no name defined but by the page itself."""
    monkeypatch.chdir(tmp_path)
    names = {}
    try:
        for n, block in enumerate(blocks(page)):
            exec(compile(block, f"{page}, block {n}", "exec"), names)
    finally:
        jax.config.update("jax_enable_x64", False)  # which one of them sets


def test_the_first_table_is_what_its_code_prints(capsys):
    """Oracle: the page itself, whose numbers are of one machine, within rounding."""
    text = (ROOT / "docs" / "index.md").read_text()
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    exec(compile(blocks("index.md")[0], "index.md", "exec"), {})
    texts = capsys.readouterr().out, shown
    printed, shown = ([*filter(None, text.splitlines())] for text in texts)
    number = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?")
    head, near = 6, {"rel": 0.01, "abs": 1e-3}
    assert printed[:head] == shown[:head]
    for ours, theirs in zip(printed[head:], shown[head:], strict=True):
        one, two = ([float(n) for n in number.findall(line)] for line in (ours, theirs))
        if ours.startswith(" "):  # a row, but for its seconds
            assert one[:-1] == pytest.approx(two[:-1], **near)
        else:
            assert number.sub("", ours) == number.sub("", theirs)


def calls(page):
    """Yield the calls of `ctep` in the text of a page, parsed."""
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    for code in re.findall(r"`(?:[\w ]+=\s*)?(ctep\.[^`]+\))`", text):
        for node in ast.walk(ast.parse(code, mode="eval")):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(
                "ctep."
            ):
                yield node


def test_calls_in_text_have_the_arguments_that_they_need():
    """Oracle: the signature of what is called; `...` may stand for any argument."""
    found = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for call in calls(os.path.relpath(path, ROOT / "docs")):
            found += 1
            called = eval(ast.unparse(call.func), {"ctep": ctep})
            if "..." in map(ast.unparse, call.args):
                continue
            values = {keyword.arg: None for keyword in call.keywords}
            inspect.signature(called).bind(*call.args, **values)
    assert found > 15


def test_public_names_are_documented_as_what_they_are():
    """A function whose module has its name is no module. Oracle: Python's own view."""
    griffe = pytest.importorskip("griffe", reason="of the docs extra")
    package = griffe.load("ctep", search_paths=[ROOT])
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for entry in re.findall(r"^::: ctep\.(\S+)$", page.read_text(), re.M):
            value, shown = ctep, package[entry]
            for name in entry.split("."):
                value = getattr(value, name)
            shown = shown.final_target if shown.is_alias else shown
            assert shown.is_class == inspect.isclass(value), entry
            assert shown.is_module == inspect.ismodule(value), entry


def test_words_are_linked_where_a_page_first_uses_them():
    """Not in code, headings or links; `the rest of` is no rest."""
    spec = importlib.util.spec_from_file_location(
        "glossary", ROOT / "docs" / "extensions" / "glossary.py"
    )
    glossary = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(glossary)
    words = glossary.meanings()
    assert set(words) == set(glossary.FORMS)
    page = (
        "<h2>A nudge</h2><p>The rest of <code>nudge</code>, <a>a nudge</a>; nudges "
        "come to rest, a nudge.</p><p>A rest is one.</p><pre>sweep</pre>"
    )
    got = glossary.linked(page, "n/", words)
    links = re.findall(r'href="n/#term-(\w+)" title="[^"]+">([^<]+)</a>', got)
    assert links == [("nudge", "nudges"), ("rest", "to rest")]
    assert re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", got) == page


@matrix.campaign
def test_complex_nudges_have_the_error_that_their_page_says(capsys):
    """The block for eight points alone prints its row of the page's table."""
    (block,) = blocks("systems/holomorphic.md")
    try:
        exec(block.replace("(1, 2, 4, 8, 16)", "(8,)"), {})
    finally:
        jax.config.update("jax_enable_x64", False)  # which the block has set
    points, error = capsys.readouterr().out.split()
    page = (ROOT / "docs" / "systems" / "holomorphic.md").read_text()
    rows = re.findall(r"^\| (\d+) \| \S+ \| (\S+) \|", page, re.M)
    assert (points, error) in rows
