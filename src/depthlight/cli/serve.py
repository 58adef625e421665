"""``depthlight serve``: the HTTP API (docs/how-to/serve.md)."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import InputError
from ..core.extras import require
from ..io.text import read_text
from .common import BackendOption, DeviceOption, PrecisionOption, QuietFlag, ThreadsOption, say
from .search import parse_bytes

if TYPE_CHECKING:
    from ..app.settings import ServeConfig

TOKEN_VARIABLE = "DEPTHLIGHT_TOKEN"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Stereo model that clients may use; repeatable.")
    ] = None,
    mono: Annotated[list[str] | None, typer.Option("--mono", help="Mono model that clients may use.")] = None,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Prior that refinement may use.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help=f"Bearer token clients need (or {TOKEN_VARIABLE}).")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Name clients may call this server by.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Pairs and photos computed at once.")] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait; more are answered 429.")] = 16,
    max_body: Annotated[str, typer.Option("--max-body", help="Largest request, as 64MB.")] = "64MB",
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Of one image.")] = 25_000_000,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Most memory of a worker, as 4GB: larger images go in tiles.")
    ] = None,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds for a pair or a photo.")] = 120,
    refine_limit: Annotated[float, typer.Option("--refine-limit", help="Seconds for a refinement.")] = 1800,
    keep: Annotated[float, typer.Option("--keep", help="Seconds that results stay.")] = 900,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    page: Annotated[bool, typer.Option("--page", help="Also the page of depthlight app.")] = False,
    quiet: QuietFlag = False,
) -> None:
    """Serve disparity, depth and refinement over HTTP; on this machine only, unless --host says otherwise.

    SIGTERM lets running work end (up to 10 s) and leaves.
    """
    need_extra("serve")
    from ..app.settings import LOOPBACK, ServeConfig

    local = host in LOOPBACK
    token = _token(token_file)
    named = {"models": model, "monos": mono, "priors": prior}
    chosen: dict[str, Any] = {name: tuple(names) for name, names in named.items() if names}
    config = ServeConfig(
        **chosen,
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
        max_memory=None if max_memory is None else parse_bytes(max_memory),
        workers=workers,
        queue=queue,
        max_body=parse_bytes(max_body),
        max_pixels=max_pixels,
        work_seconds=time_limit,
        refine_seconds=refine_limit,
        keep_seconds=keep,
        token=token,
        hosts=(*(allow_host or ()), *(LOOPBACK if local or allow_host else ())),
    )
    launch(config, host, port, page=page, quiet=quiet)


def need_extra(verb: str) -> None:
    """Refuse where what serving takes is not installed.

    Raises:
        MissingExtraError: names the pip command.
    """
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(name, extra="app", purpose=f"depthlight {verb} needs it")


def launch(
    config: ServeConfig,
    host: str,
    port: int,
    *,
    page: bool,
    quiet: bool,
    opened: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve until told to stop; with ``page`` also the page, and then ``opened`` hears its address.

    An installation without the page's libraries says so in a line, and serves the rest.
    """
    from ..app import server, site
    from ..app.api import create_app
    from ..app.settings import LOOPBACK

    whole = page and site.is_whole()
    if page and not whole:
        print(f"depthlight: {site.MISSING}; /v1 works without them.", file=sys.stderr)
    with server.listen(host, port) as sock, tempfile.TemporaryDirectory(prefix="depthlight-page-") as folder:
        url = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"

        def started() -> None:
            say(f"depthlight serves {url} (Ctrl-C to stop).", quiet=quiet)
            if host not in LOOPBACK and config.token is None:
                say("Whoever reaches this address can use it: think of --token-file.", quiet=quiet, as_json=True)
            sys.stdout.flush()  # others may wait for the line
            if whole:
                opened(url)

        if whole:
            site.write_site(Path(folder))
            config = replace(config, static=Path(folder))
        app = create_app(config, samples={"motorcycle": _motorcycle})
        asyncio.run(server.serve(app, sock, started=started))


def _token(path: Path | None) -> str | None:
    """The token, from a file or the environment: an argument would be seen by every user of the machine."""
    inherited = os.environ.pop(TOKEN_VARIABLE, None)  # no business of the workers
    token = inherited if path is None else read_text(path, what="a token").strip()
    if token == "":
        raise InputError("the token is empty", expected="16 or more characters")
    return token


@cache
def _motorcycle() -> dict[str, bytes]:
    """The sample pair of ``depthlight demo`` as files."""
    from PIL import Image

    from ..geometry.calibration import Calibration, middlebury
    from .demo import MOTORCYCLE_RIG, motorcycle

    files = middlebury.write(Calibration(format="middlebury", rig=MOTORCYCLE_RIG))
    found = {name: text.encode() for name, text in files.items()}
    for name, view in zip(("left.png", "right.png"), motorcycle()[:2], strict=True):
        stream = io.BytesIO()
        Image.fromarray(view).save(stream, "PNG")
        found[name] = stream.getvalue()
    return found
