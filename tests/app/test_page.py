"""The page in headless Chromium: against a server, and as static files that compute by themselves.

Screenshots go to build/page/, to be looked at.
"""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import depthlight as dl
from depthlight.app import site
from depthlight.core.tolerances import TOLERANCES
from depthlight.io.disparity_files import read_disparity
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.mono import build

pytestmark = pytest.mark.slow
SHOTS = Path(__file__).parents[2] / "build" / "page"
CHROMIUM = shutil.which("chromium")
QUIET = ("quic", "background-networking", "component-update", "sync")  # it would look for its maker's servers
OPTIONS = [
    "--no-sandbox",
    "--no-first-run",
    *(f"--disable-{name}" for name in QUIET),
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
SECONDS = 120
TINY = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 0, "heads": 1, "last": 4, "working": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page as static files."""
    if not site.is_whole():
        pytest.skip("python tools/vendor.py was not run")
    found = tmp_path_factory.mktemp("page") / "site"
    site.write_site(found)
    return found


@pytest.fixture(scope="module")
def served(folder, make_listener, tmp_path_factory):
    """The address of a server with the page, and with an untrained network for photos."""
    mono = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_safetensors(mono, build("mono", TINY), {"family": "mono", "name": "mono.tiny", "network": json.dumps(TINY)})
    models = ("light", "light-s", "sgbm")
    _, (host, port) = make_listener(static=folder, models=models, monos=(str(mono),), priors=("none",))
    return f"http://{host}:{port}/"


@pytest.fixture(scope="module")
def static(folder):
    """The address of a plain file server with the page."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *SOFTWARE_GPU])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """A function that opens an address; at the end nothing may have gone wrong in the page."""
    contexts, problems = [], []

    def note(message):
        # an answer that is an error, and a node that WebGPU refuses, are told in the console as well
        expected = "/v1/" in message.location.get("url", "") or "ExecuteKernel" in message.text
        if message.type == "error" and not expected:
            problems.append(message.text)

    def open_page(url, **settings):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#where option", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def until(condition):
    """Playwright's own waiting for text would need a page that allows eval."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def compute(page, name="Compute disparity"):
    page.get_by_role("button", name=name).click()
    until(lambda: page.locator("#work").is_hidden() and page.inner_text("#status"))
    assert page.inner_text("#status").startswith("Done in"), page.inner_text("#status")


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def downloaded(page, name):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(waiting.value.path())


def array(page, name):
    return np.load(io.BytesIO(downloaded(page, name).read_bytes()), allow_pickle=False)


def hover(page, x, y):
    """What the page says of a pixel, from the middle of it."""
    width, height = page.evaluate("[picture.width, picture.height]")
    box = page.locator("#picture").bounding_box()
    position = {"x": (x + 0.5) * box["width"] / width, "y": (y + 0.5) * box["height"] / height}
    page.locator("#picture").hover(position=position)
    return page.inner_text("#readout")


def colours(page, selector):
    """How many colours an element shows."""
    picture = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


def test_a_pair_from_upload_to_files(visit, served, pair, calib):
    page = visit(served)
    for name in ("left", "right"):
        page.set_input_files(f"#file-{name}", {"name": f"{name}.png", "mimeType": "image/png", "buffer": pair[name]})
    page.set_input_files("#calib", {"name": "calib.txt", "mimeType": "text/plain", "buffer": calib})
    compute(page)
    fields = {"format": "npy", "depth": "npy", "cloud": "none"}
    answer = httpx.post(f"{served}v1/stereo", files=pair | {"calib": calib}, data=fields, timeout=60).json()
    urls = {file["name"]: served[:-1] + file["url"] for file in answer["files"]}
    maps = {name: np.load(io.BytesIO(httpx.get(urls[f"{name}.npy"]).content)) for name in ("disparity", "depth")}
    for x, y in ((40, 30), (77, 11)):
        told = hover(page, x, y)
        assert f"x {x}, y {y}: disparity {maps['disparity'][y, x]:.2f} px" in told
        assert f", {maps['depth'][y, x]:.3f} m" in told
    names = page.locator("#files button").all_inner_texts()
    wanted = [f"disparity.{kind}" for kind in ("png", "npy", "pfm", "tiff")]
    assert {*wanted, "depth.npy", "depth.png", "cloud.ply", "cloud.glb", "mesh.glb", "result.json"} <= set(names)
    assert np.array_equal(array(page, "disparity.npy"), maps["disparity"])
    assert "nothing wrong" in page.inner_text("#findings")


def test_views_of_a_sample(visit, served):
    page = visit(served)
    page.get_by_role("button", name="Sample: room").click()
    compute(page)
    assert colours(page, "#picture") > 500
    page.get_by_label("Hide below confidence").fill("90")
    dark = (
        "[...pen.getImageData(0, 0, picture.width, picture.height).data].filter((v, i) => i % 4 == 0 && v == 38).length"
    )
    hidden = page.evaluate(f"(() => {{ const pen = picture.getContext('2d'); return {dark}; }})()")
    assert hidden > 1000
    page.get_by_label("Hide below confidence").fill("0")
    shot(page, "map")
    page.get_by_label("Before and after").check()
    page.get_by_role("slider", name="Wiper").fill("30")
    shot(page, "wiper")
    page.get_by_label("Wiggle").check()
    first = page.evaluate("picture.toDataURL()")
    until(lambda: page.evaluate("picture.toDataURL()") != first)
    page.get_by_label("3-D").check()
    until(lambda: colours(page, "#space") > 500)
    shot(page, "points")
    page.get_by_label("Mesh").check()
    before = page.locator("#space").screenshot()
    page.locator("#space").press("ArrowLeft")
    assert page.locator("#space").screenshot() != before and colours(page, "#space") > 500
    shot(page, "mesh")


def test_measuring_by_keyboard(visit, served):
    page = visit(served)
    page.get_by_role("button", name="Sample: things").click()
    compute(page)
    rig = dl.StereoRig.from_file(site.PAGE / "samples" / "things" / "calib.txt")
    depth = array(page, "depth.npy")
    picture = page.locator("#picture")
    picture.focus()
    picture.press("Shift+ArrowLeft")
    picture.press("Enter")
    for _ in range(4):
        picture.press("Shift+ArrowDown")
    picture.press("Enter")
    (x, y), (to_x, to_y) = (310, 208), (310, 248)
    ends = [
        np.array([(u - rig.cx) / rig.fx, (v - rig.cy) / rig.fy, 1]) * depth[v, u] for u, v in ((x, y), (to_x, to_y))
    ]
    assert page.inner_text("#measured") == f"Distance: {np.linalg.norm(ends[1] - ends[0]):.3f} m"
    shot(page, "measured")


def test_refinement_shows_its_way_and_can_be_ended(visit, served, pair):
    page = visit(served)
    for name in ("left", "right"):
        page.set_input_files(f"#file-{name}", {"name": f"{name}.png", "mimeType": "image/png", "buffer": pair[name]})
    page.get_by_label("Model").select_option("light-s")
    compute(page)
    before = array(page, "disparity.npy")
    page.get_by_label("Steps").fill("5000")
    page.get_by_role("button", name="Refine", exact=True).click()
    page.wait_for_selector("#refine-picture:not([hidden])")
    assert re.match(r"Step \d+ of 5000, loss \d", page.inner_text("#refine-state"))
    shot(page, "refining")
    page.get_by_role("button", name="Cancel the refinement").click()
    until(lambda: page.inner_text("#refine-state") == "Cancelled.")
    page.get_by_label("Steps").fill("5")
    page.get_by_role("button", name="Refine", exact=True).click()
    until(lambda: page.inner_text("#refine-state") == "Refined.")
    np.testing.assert_allclose(array(page, "before.npy"), before, atol=TOLERANCES["ort.max"])
    after = array(page, "after.npy")
    assert f"disparity {after[30, 40]:.2f} px, before {before[30, 40]:.2f} px" in hover(page, 40, 30)


def test_a_photo(visit, served, pair):
    page = visit(served)
    page.get_by_label("One photo").check()
    page.set_input_files("#file-image", {"name": "photo.png", "mimeType": "image/png", "buffer": pair["left"]})
    compute(page, "Estimate depth")
    values = array(page, "inverse_depth.npy")
    assert f"inverse depth {values[20, 30]:.2f}" in hover(page, 30, 20)
    assert page.get_by_label("Wiggle").is_hidden() and page.locator("#confidence").is_hidden()
    page.get_by_label("3-D").check()
    until(lambda: colours(page, "#space") > 50)
    page.get_by_label("Steps").fill("3")
    page.get_by_role("button", name="Refine", exact=True).click()
    until(lambda: page.inner_text("#refine-state") == "Refined.")
    assert np.array_equal(array(page, "before.npy"), values)


def test_side_by_side_here_and_there(visit, served, views, png):
    page = visit(served)
    page.get_by_label("Side by side").check()
    both = {"name": "both.png", "mimeType": "image/png", "buffer": png(np.hstack(views))}
    page.set_input_files("#file-side_by_side", both)
    found = []
    for where in ("server", "browser"):
        page.get_by_label("Compute on").select_option(where)
        compute(page)
        found.append(array(page, "disparity.npy"))
    assert np.quantile(np.abs(found[0] - found[1]), 0.999) <= TOLERANCES["page.p999"]


def test_without_a_server_it_computes_the_same(visit, static, tmp_path):
    page = visit(static)
    assert page.locator("#where option").all_inner_texts() == ["This browser; nothing is sent"]
    page.get_by_role("button", name="Sample: things").click()
    compute(page)
    views = [site.PAGE / "samples" / "things" / f"{name}.webp" for name in ("left", "right")]
    expected = dl.load(threads=1).predict(*views)
    depth = expected.to_depth(dl.StereoRig.from_file(site.PAGE / "samples" / "things" / "calib.txt"))
    found = array(page, "disparity.npy")
    away = np.abs(found - expected.disparity)
    assert np.quantile(away, 0.999) <= TOLERANCES["page.p999"] and away.max() <= TOLERANCES["page.max"]
    apart = np.abs(array(page, "depth.npy") / np.where(depth.valid, depth.depth, 1) - depth.valid)
    assert np.quantile(apart, 0.999) <= 1e-3
    for x, y in ((321, 123), (20, 10), (620, 405), (450, 301)):
        confidence = re.search(r"confidence ([\d.]+)", hover(page, x, y))
        assert abs(float(confidence[1]) - expected.confidence[y, x]) < 0.006
    for name in ("disparity.png", "disparity.pfm"):
        shutil.copy(downloaded(page, name), tmp_path / name)
        np.testing.assert_allclose(read_disparity(tmp_path / name).disparity_HW, found, atol=1 / 511)
    import trimesh

    shutil.copy(downloaded(page, "cloud.ply"), tmp_path / "cloud.ply")
    points = trimesh.load(tmp_path / "cloud.ply").vertices
    assert abs(len(points) - depth.valid.sum()) < 20 and np.median(points[:, 2]) == pytest.approx(
        np.median(depth.depth[depth.valid]), rel=1e-3
    )
    shot(page, "static")


def test_webgpu_computes_the_same(visit, static, folder, views, png, request):
    worker = (folder / "worker.js").read_text()
    request.addfinalizer(lambda: (folder / "worker.js").write_text(worker))
    # the processor plays the graphics card here, which the page would refuse for being slow
    (folder / "worker.js").write_text(worker.replace("!adapter.info?.isFallbackAdapter", "true"))
    page = visit(static)
    small = [view[:32, :64] for view in views]  # it takes a minute as it is
    for name, view in zip(("left", "right"), small, strict=True):
        page.set_input_files(f"#file-{name}", {"name": f"{name}.png", "mimeType": "image/png", "buffer": png(view)})
    compute(page)
    assert "on WebGPU" in page.inner_text("#status")
    away = np.abs(array(page, "disparity.npy") - dl.load(threads=1).predict(*small).disparity)
    assert np.quantile(away, 0.999) <= TOLERANCES["page.p999"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit, served, scheme):
    page = visit(served, viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True, has_touch=True)
    for sample in ("street", None):
        if sample:
            page.get_by_role("button", name=f"Sample: {sample}").click()
            compute(page)
            page.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shot(page, f"phone-{scheme}")
    page.get_by_label("3-D").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_control_has_a_name(visit, served):
    page = visit(served)
    nameless = """[...document.querySelectorAll("input, select, button, progress, canvas, img")].filter((one) =>
        !one.closest("[aria-hidden]") && !one.labels?.length && !one.textContent.trim()
        && !one.ariaLabel && one.id !== "picture" && one.getAttribute("alt") === null).map((one) => one.outerHTML)"""
    page.get_by_role("button", name="Sample: room").click()
    assert page.evaluate(nameless) == []


def test_errors_are_told(visit, served, pair, png):
    page = visit(served)
    other = png(np.zeros((32, 48, 3), np.uint8))
    for name, buffer in (("left", pair["left"]), ("right", other)):
        page.set_input_files(f"#file-{name}", {"name": f"{name}.png", "mimeType": "image/png", "buffer": buffer})
    for where in ("server", "browser"):
        page.get_by_label("Compute on").select_option(where)
        page.get_by_role("button", name="Compute disparity").click()
        until(lambda: "size" in page.inner_text("#status"))
    page.get_by_label("One photo").check()
    assert "mono model" in page.inner_text("#able") and page.get_by_role("button", name="Estimate depth").is_disabled()


def test_arrays_and_geometry_in_javascript(visit, static):
    page = visit(static)
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    stream = io.BytesIO()
    np.save(stream, values)
    code = """async (bytes) => {
        const { readNpy, writeNpy } = await import("./npy.js");
        const read = readNpy(new Uint8Array(bytes).buffer);
        const again = await writeNpy(read.values, read.shape).arrayBuffer();
        return [read.shape, [...read.values], [...new Uint8Array(again)]];
    }"""
    shape, flat, again = page.evaluate(code, list(stream.getvalue()))
    assert shape == [3, 5] and np.array_equal(np.float32(flat), values.ravel())
    assert np.array_equal(np.load(io.BytesIO(bytes(again))), values)
    refused = 'async () => (await import("./npy.js")).readNpy(new ArrayBuffer(200))'
    with pytest.raises(Exception, match=r"not a \.npy file"):
        page.evaluate(refused)
    geometry = """async (text) => {
        const { readCalibration, writeCalibration, depthOf, pointOf } = await import("./rig.js");
        const rig = readCalibration(writeCalibration(readCalibration(text)));
        return [rig, depthOf(4, rig), pointOf(10, 20, 3, rig)];
    }"""
    cameras = ["cam0=[100 0 48; 0 90 32; 0 0 1]", "cam1=[100 0 50; 0 90 32; 0 0 1]"]
    text = "\n".join([*cameras, "doffs=2", "baseline=100", "width=96", "height=64"])
    rig, depth, point = page.evaluate(geometry, text)
    assert rig["baseline"] == pytest.approx(0.1) and rig["doffs"] == 2 and (rig["width"], rig["height"]) == (96, 64)
    assert depth == pytest.approx(100 * 0.1 / (4 + 2)) and point == pytest.approx([-1.14, -0.4, 3])
