"""``depthlight app`` and the page as files; what the page does is tried in a browser by test_page.py."""

from __future__ import annotations

import json

import pytest

from depthlight.app import server, site
from depthlight.cli import app as cli_app
from depthlight.cli.main import run
from depthlight.core.registry import DEFAULT_MODEL, sha256_of


@pytest.fixture
def libraries(monkeypatch, tmp_path):
    """A function that says whether the vendored libraries are there; this test run may have them or not."""
    return lambda there: monkeypatch.setattr(site, "is_whole", lambda: there)


@pytest.fixture
def served(monkeypatch):
    """Applications that were served, instead of serving them: (settings, names of the page's files)."""
    found = []

    async def serve(app, sock, *, started):
        static = app.config.static
        found.append((app.config, static and sorted(path.name for path in static.iterdir())))
        started()
        sock.close()

    monkeypatch.setattr(server, "serve", serve)
    return found


def test_without_the_libraries_it_says_how_to_get_them_and_serves_the_api(libraries, served, capsys):
    libraries(False)
    assert run(["app", "--no-browser"]) == 0
    assert served[0][0].static is None
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "tools/vendor.py" in told.err and "http://127.0.0.1:" in told.out
    assert run(["app", "--export", "site"]) == 2
    assert "tools/vendor.py" in capsys.readouterr().err


class Now:
    """A thread that is done when it has started."""

    def __init__(self, target, args, daemon):
        self.start = lambda: target(*args)


def test_the_page_is_served_and_opened(libraries, served, monkeypatch):
    libraries(True)
    opened = []
    monkeypatch.setattr(cli_app.webbrowser, "open", opened.append)
    monkeypatch.setattr(cli_app, "Thread", Now)
    assert run(["app", "--model", "sgbm", "--threads", "1", "-q"]) == 0
    config, files = served[0]
    assert config.models == ("sgbm",) and {"index.html", "main.js", "model", "samples"} <= set(files)
    assert not config.static.exists(), "the copy goes with the server"
    assert run(["serve", "--port", "0", "--page", "-q"]) == 0
    assert served[1][0].static is not None
    assert len(opened) == 1 and opened[0].startswith("http://127.0.0.1:"), "serve opens no browser"


def test_the_exported_page_holds_the_network(libraries, tmp_path, capsys):
    libraries(True)
    target = tmp_path / "site"
    assert run(["app", "--export", str(target)]) == 0
    card = json.loads((target / "model" / "card.json").read_text())
    bundled = site.bundled()[DEFAULT_MODEL]
    assert card["name"] == DEFAULT_MODEL and card["max_disp"] == bundled.max_disp
    assert sha256_of(target / "model" / "stereo.onnx") == bundled.files["onnx"].sha256
    assert run(["app", "--export", str(target)]) == 2
    assert "empty folder" in capsys.readouterr().err


def test_pages_may_load_nothing_from_elsewhere(make_application):
    client = make_application(static=site.PAGE)
    for path in ("/", "/main.js", "/v1/models", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
        assert "http" not in policy and headers["cross-origin-opener-policy"] == "same-origin"
    page = client.get("/").text
    assert "http://" not in page and "https://" not in page and "<script>" not in page and "style=" not in page


def test_no_module_of_the_page_writes_html():
    for path in site.PAGE.glob("*.js"):
        code = path.read_text()
        assert not any(
            word in code for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )
        assert "https://" not in code, "everything comes from beside the page"
