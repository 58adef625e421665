"""Official weights: through the hub where it answers, else a line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

hub_client = pytest.importorskip("huggingface_hub")

from depthlight.core.errors import CheckpointError, UnknownNameError  # noqa: E402
from depthlight.core.registry import HUB_REPOSITORY, HUB_WEIGHTS  # noqa: E402
from depthlight.nets.hub import fetch_official  # noqa: E402


@pytest.mark.parametrize("name", HUB_WEIGHTS)
def test_fetch_asks_the_hub_for_the_right_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, file: str) -> str:
        assert repository == HUB_REPOSITORY
        (tmp_path / file).write_bytes(b"weights")
        return str(tmp_path / file)

    monkeypatch.setattr(hub_client, "hf_hub_download", download)
    path = fetch_official(name)
    assert path == tmp_path / HUB_WEIGHTS[name]
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError("offline"), ValueError("no cache")])
def test_fetch_without_network_says_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, file: str) -> str:
        raise error

    monkeypatch.setattr(hub_client, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match=r"LAS2_S\.pth .*--weights FILE\.$") as caught:
        fetch_official("las2-s.official")
    assert "\n" not in str(caught.value)


def test_las1_is_not_on_the_hub() -> None:
    with pytest.raises(CheckpointError, match=r"Google Drive .*--weights FILE"):
        fetch_official("las1.official")


def test_unknown_official_name() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'las2-s\.official'"):
        fetch_official("las2-s.oficial")
