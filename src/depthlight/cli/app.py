"""``depthlight app``: the server with its page, in a browser; or the page as files (docs/how-to/app.md)."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from .common import QuietFlag, ThreadsOption, say
from .serve import launch, need_extra

HOST = "127.0.0.1"


def app(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the page as files for a static host, and leave.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Stereo model to offer; repeatable.")] = None,
    mono: Annotated[list[str] | None, typer.Option("--mono", help="Mono model to offer; repeatable.")] = None,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Prior that refinement may use.")] = None,
    threads: ThreadsOption = None,
    quiet: QuietFlag = False,
) -> None:
    """Open a page for pairs and photos: disparity, depth, 3-D, refinement, files. For this machine alone.

    depthlight serve --page is the same for others, with every option of a server.
    """
    if export is not None:
        from ..app.site import write_site

        write_site(export)
        say(f"{export}: a page that computes in the browser. Serve it with any web server.", quiet=quiet)
        return
    need_extra("app")
    from ..app.settings import ServeConfig

    named = {"models": model, "monos": mono, "priors": prior}
    chosen: dict[str, Any] = {name: tuple(names) for name, names in named.items() if names}

    def opened(url: str) -> None:
        if browser:  # some browsers only return when they are closed
            Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    launch(ServeConfig(**chosen, threads=threads), HOST, port, page=True, quiet=quiet, opened=opened)
