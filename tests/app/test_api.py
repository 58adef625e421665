"""What the API answers: results in every format, equal to the library's; one shape of errors; jobs and their files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

import depthlight as dl
from depthlight.app import settings
from depthlight.core.registry import DEFAULT_MODEL, DEFAULT_MONO, SMALL_MODEL
from depthlight.io.disparity_files import read_disparity

TINY = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 0, "heads": 1, "last": 4, "working": 64}


def fetch(client, answer, name):
    urls = {file["name"]: file for file in answer["files"]}
    content = client.get(urls[name]["url"])
    assert content.status_code == 200 and len(content.content) == urls[name]["bytes"]
    return content.content


def array(content):
    return np.load(io.BytesIO(content), allow_pickle=False)


def test_a_pair_gives_what_the_library_gives(client, pair, views, calib, tmp_path):
    fields = {"format": "npy,pfm,tiff", "depth": "npy,png", "cloud": "ply,glb", "mesh": "true", "doctor": "true"}
    response = client.post("/v1/stereo", files=pair | {"calib": calib}, data=fields)
    assert response.status_code == 200, response.text
    answer = response.json()
    expected = dl.load(threads=1).predict(*views)
    assert np.array_equal(array(fetch(client, answer, "disparity.npy")), expected.disparity)
    (tmp_path / "calib.txt").write_bytes(calib)
    depth = expected.to_depth(dl.StereoRig.from_file(tmp_path / "calib.txt"))
    assert np.array_equal(array(fetch(client, answer, "depth.npy")), depth.depth)
    for name in ("disparity.png", "disparity.json"):
        (tmp_path / name).write_bytes(fetch(client, answer, name))
    np.testing.assert_allclose(
        read_disparity(tmp_path / "disparity.png").disparity_HW, expected.disparity, atol=1 / 512
    )
    for name, start in {
        "disparity.pfm": b"Pf\n",
        "disparity.tiff": b"II*",
        "cloud.ply": b"ply\n",
        "cloud.glb": b"glTF",
        "mesh.glb": b"glTF",
        "preview.png": b"\x89PNG",
        "confidence.png": b"\x89PNG",
    }.items():
        assert fetch(client, answer, name).startswith(start), name
    stored = json.loads(fetch(client, answer, "result.json"))
    assert {key: answer["result"][key] for key in stored} == stored
    assert stored["weights_sha256"] and stored["space"] == "disparity" and stored["metres"]["unit"] == "m"
    assert answer["result"]["doctor"]["ok"] is True and answer["result"]["doubt"] is None


def test_side_by_side_other_models_and_a_doubtful_pair(client, pair, views, png):
    both = client.post(
        "/v1/stereo", files={"side_by_side": png(np.hstack(views))}, data={"format": "npy", "model": "sgbm"}
    ).json()
    apart = client.post("/v1/stereo", files=pair, data={"format": "npy", "model": "sgbm"}).json()
    assert both["result"]["model"] == "sgbm"
    assert fetch(client, both, "disparity.npy") == fetch(client, apart, "disparity.npy")
    swapped = client.post("/v1/stereo", files={"left": pair["right"], "right": pair["left"]}).json()
    assert "wrong side" in swapped["result"]["doubt"]


@pytest.mark.parametrize(
    ("path", "files", "fields", "status", "code", "says"),
    [
        ("stereo", {"left": b"GIF89a" * 9, "right": b"<svg>" * 9}, {}, 415, "unsupported_type", "left is not an image"),
        ("stereo", {"left": "cut", "right": "good"}, {}, 422, "bad_image", "left is damaged"),
        ("stereo", {"left": "good"}, {}, 422, "bad_input", "left and right or side_by_side"),
        ("stereo", {"left": "good", "right": "other"}, {}, 422, "bad_input", "of one size"),
        ("stereo", {"left": "good", "right": "good"}, {"max_disp": "0"}, 422, "bad_input", "max_disp"),
        ("stereo", {"left": "good", "right": "good"}, {"nonsense": "1"}, 422, "bad_input", "nonsense"),
        ("stereo", {"left": "good", "right": "good"}, {"mesh": "1"}, 422, "bad_input", "mesh needs calib"),
        ("stereo", {"left": "good", "right": "good"}, {"model": "/etc/passwd"}, 422, "unknown_name", "/etc/passwd"),
        ("stereo", {"left": "good", "right": "good"}, {"model": "http://a/b.onnx"}, 422, "unknown_name", "sgbm"),
        ("stereo", {"left": "good", "right": "good"}, {"right": "x"}, 422, "bad_input", "not text"),
        ("stereo", {"left": "good", "right": "good", "calib": b"\xff"}, {}, 422, "bad_file", "calib is not text"),
        ("stereo", {"left": "good", "right": "good", "calib": b"x"}, {}, 422, "bad_file", "calib is no calibration"),
        ("stereo", {"left": "good", "right": "good", "format": b"png"}, {}, 422, "bad_input", "'format'"),
        ("stereo", {"left": "good", "right": "good"}, {"find_range": "1", "max_disp": "9"}, 422, "bad_input", "range"),
        ("mono", {"image": "good"}, {}, 501, "unavailable", "no mono model"),
        ("refine", {"image": "good"}, {}, 501, "unavailable", "no mono model"),
        ("refine", {"image": "good"}, {"max_disp": "9"}, 422, "bad_input", "max_disp is for a pair"),
        ("refine", {"left": "good", "right": "good"}, {"seed": "1"}, 422, "bad_input", "seed is for one photo"),
        ("refine", {"image": "good"}, {"recipe": "/etc/recipe.toml"}, 422, "bad_input", "recipe"),
    ],
)
def test_what_is_refused_and_how(client, pair, png, path, files, fields, status, code, says):
    known = {"good": pair["left"], "cut": pair["left"][:700], "other": png(np.zeros((32, 32, 3), np.uint8))}
    response = client.post(f"/v1/{path}", files={k: known.get(v, v) for k, v in files.items()}, data=fields)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), error
    assert says in f"{error['what']}; {error['expected']}" and "/tmp" not in response.text
    assert set(response.json()) == {"error"} and set(error) == {"code", "what", "expected", "hint"}
    assert not client.state.quick.waiting and client.state.quick.restarts == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/v1/stereo", 405),
        ("GET", "/v1/jobs/x", 404),
        ("DELETE", "/v1/jobs/x", 404),
        ("GET", "/v1/jobs/x/events", 404),
        ("GET", "/v1/samples/../../etc/passwd", 404),
        ("GET", "/v1/samples/one/..%2f..%2fetc%2fpasswd", 404),
        ("POST", "/v1/stereo", 415),
    ],
)
def test_other_routes_err_in_the_same_shape(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status and set(response.json()["error"]) == {"code", "what", "expected", "hint"}


def test_a_photo_needs_no_settings(make_application, pair):
    client = make_application()
    assert client.get("/v1/models").json()["mono"] == [DEFAULT_MONO]
    answer = client.post("/v1/mono", files={"image": pair["left"]})
    assert answer.status_code == 200 and answer.json()["result"]["model"] == DEFAULT_MONO


def test_without_torch_no_network_for_photos_is_offered(monkeypatch):
    monkeypatch.setattr(settings, "have", lambda name: False)
    assert settings.ServeConfig().monos == ()


def test_catalogue_samples_health_and_metrics(client, pair):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    models = client.get("/v1/models").json()
    assert models["stereo"] == [DEFAULT_MODEL, SMALL_MODEL, "sgbm"] and models["mono"] == []
    assert client.get(client.get("/v1/samples").json()[0]["left"]).content == b"l"
    client.post("/v1/stereo", files=pair)
    text = client.get("/metrics").text
    assert 'depthlight_requests_total{method="POST",route="/v1/stereo",status="200"}' in text
    assert 'depthlight_jobs_total{kind="stereo",state="done"}' in text and "depthlight_jobs_waiting 0.0" in text
    described = client.get("/openapi.json").json()["paths"]["/v1/stereo"]["post"]
    assert described["requestBody"]["content"]["multipart/form-data"]["example"]["format"] == "png,npy"
    assert {"413", "415", "422", "429"} <= set(described["responses"])


def events(client, job):
    with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    names = [line[7:] for line in lines if line.startswith("event: ")]
    return names, [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_a_refinement_is_followed_to_its_end(client, pair):
    begun = client.post("/v1/refine", files=pair, data={"steps": "2"})
    assert begun.status_code == 202
    names, said = events(client, begun.json()["id"])
    assert names[-1] == "done" and said[-1]["progress"]["step"] == said[-1]["progress"]["steps"] == 2
    assert array(fetch(client, said[-1], "after.npy")).shape == (64, 96)
    assert client.get(f"/v1/jobs/{said[-1]['id']}").json()["result"] == said[-1]["result"]

    cut = client.post("/v1/refine", files=pair | {"right": pair["right"][:700]}).json()["id"]
    names, said = events(client, cut)
    assert names[-1] == "failed" and said[-1]["error"]["code"] == "bad_image"


@pytest.mark.slow
def test_photos_and_their_refinement(make_application, pair, tmp_path):
    import torch

    from depthlight.io.images import read_image
    from depthlight.nets.checkpoints import save_safetensors
    from depthlight.nets.mono import build

    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_safetensors(path, build("mono", TINY), {"family": "mono", "name": "mono.tiny", "network": json.dumps(TINY)})
    client = make_application(monos=(str(path),))
    assert client.get("/v1/models").json()["mono"] == ["tiny"]  # not the path
    photo = {"image": pair["left"]}
    mono = client.post("/v1/mono", files=photo, data={"model": "tiny", "format": "npy"})
    assert mono.status_code == 200, mono.text
    values = array(fetch(client, mono.json(), "inverse_depth.npy"))
    assert np.array_equal(values, dl.load_mono(path).predict(read_image(pair["left"])).values)

    begun = client.post("/v1/refine", files=photo, data={"prior": "none", "steps": "3"})
    names, said = events(client, begun.json()["id"])
    assert names[-1] == "done" and said[-1]["progress"]["step"] == said[-1]["progress"]["steps"]
    assert np.array_equal(array(fetch(client, said[-1], "before.npy")), values)
    assert {"after.npy", "preview.png", "result.json"} <= {file["name"] for file in said[-1]["files"]}


def test_without_torch_it_says_so(make_application, pair, monkeypatch):
    monkeypatch.setattr("depthlight.app.settings.have", lambda name: False)
    response = make_application().post("/v1/refine", files=pair)
    assert response.status_code == 501 and response.json()["error"]["code"] == "missing_extra"
