"""The application: routes under ``/v1``, health, metrics, and one place for a page's files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from .. import __version__
from ..core.errors import DepthlightError
from .errors import Refusal, again, answer_to, internal, problem_of
from .forms import AnyForm, MonoForm, RefineForm, StereoForm, form_schema, read_form
from .guard import Guard
from .jobs import Job, Kind
from .settings import ServeConfig
from .state import ErrorAnswer, JobAnswer, Samples, State, media_type

_HEARTBEAT = 10.0  # s between two signs of life of an event stream
_CODES = {404: "not_found", 405: "method_not_allowed"}


router = APIRouter()
JobId = Annotated[str, Path(description="As the server gave it.")]


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": ErrorAnswer} for code in (401, 403, 422, *codes)}


_REFUSED = _errors(408, 413, 415, 429, 500, 501, 503, 504)


def _state(request: Request) -> State:
    state: State = request.app.state.shared
    return state


async def _queue(request: Request, kind: Kind, form: type[AnyForm]) -> Job:
    """Read a form and queue its job."""
    state = _state(request)
    pool = state.slow if kind == "refine" else state.quick
    pool.need_room()
    try:
        given, upload = await read_form(request, form)
        upload.check(state.config)
        job = state.store.new(kind, given.task(state.config, upload.files))
        try:
            await upload.store(job.folder)
            pool.put(job)
        except BaseException:
            await state.store.forget(job)
            raise
        return job
    finally:
        await request.close()


async def _finished(request: Request, job: Job) -> JobAnswer:
    """Wait for a job as long as its client does."""
    state = _state(request)
    work, gone = asyncio.create_task(job.wait()), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        gone.cancel()
        if job.state != "done":
            await asyncio.shield(state.store.forget(job))
    if job.error is not None:
        raise again(job.error)
    if job.state != "done":
        raise Refusal("draining" if state.quick.closing else "cancelled", "the job was cancelled")
    return state.show(job)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.post(
    "/v1/stereo",
    response_model=JobAnswer,
    responses=_REFUSED,
    openapi_extra=form_schema(StereoForm, {"left": "(left.png)", "right": "(right.png)", "format": "png,npy"}),
)
async def stereo(request: Request) -> JobAnswer:
    """Disparity of a rectified pair (`left` and `right`) or of one `side_by_side` image; with `calib`, metres.

    Answers when the work is done. A client that goes away cancels it.
    """
    return await _finished(request, await _queue(request, "stereo", StereoForm))


@router.post(
    "/v1/mono",
    response_model=JobAnswer,
    responses=_REFUSED,
    openapi_extra=form_schema(MonoForm, {"image": "(photo.jpg)", "format": "png,npy"}),
)
async def mono(request: Request) -> JobAnswer:
    """Depth of one photo: relative inverse depth, or metres by metric models. Answers when the work is done."""
    return await _finished(request, await _queue(request, "mono", MonoForm))


@router.post(
    "/v1/refine",
    response_model=JobAnswer,
    status_code=202,
    responses=_REFUSED,
    openapi_extra=form_schema(RefineForm, {"image": "(photo.jpg)", "steps": 50}),
)
async def refine(request: Request) -> JobAnswer:
    """Refine depth at test time: of a photo (`image`), or of a pair. Answers at once with a job to follow."""
    return _state(request).show(await _queue(request, "refine", RefineForm))


@router.get("/v1/jobs/{id}", response_model=JobAnswer, responses=_errors(404))
async def job(request: Request, id: JobId) -> JobAnswer:
    """State, result and files of a job."""
    state = _state(request)
    return state.show(state.store.get(id))


@router.delete("/v1/jobs/{id}", status_code=204, responses=_errors(404))
async def delete(request: Request, id: JobId) -> Response:
    """Cancel a job if it is under way, and remove it with all its files."""
    state = _state(request)
    await state.store.forget(state.store.get(id))
    return Response(status_code=204)


@router.get(
    "/v1/jobs/{id}/events",
    responses=_errors(404) | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    response_class=StreamingResponse,
)
async def events(request: Request, id: JobId) -> StreamingResponse:
    """Server-sent events: `queued`, `running` with progress, then one of `done`, `failed`, `cancelled`.

    The data of each event is the job as `GET /v1/jobs/{id}` has it.
    """
    state = _state(request)
    return StreamingResponse(_events(state, state.store.get(id)), media_type="text/event-stream")


async def _events(state: State, job: Job) -> AsyncIterator[str]:
    while True:
        changed, ended = job.changed, job.has_ended
        yield f"event: {job.state}\ndata: {state.show(job).model_dump_json()}\n\n"
        if ended:
            return
        while not changed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await changed.wait()
                    break
            yield ": still here\n\n"


@router.get(
    "/v1/jobs/{id}/files/{name}",
    responses=_errors(404)
    | {200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    response_class=FileResponse,
)
async def file(request: Request, id: JobId, name: str) -> FileResponse:
    """One file of a result, by a name that the job lists."""
    found = _state(request).store.get(id)
    if name not in found.files:
        raise Refusal("not_found", "the job has no such file", expected=", ".join(found.files))
    kept = {"Cache-Control": "private, max-age=600"}
    return FileResponse(found.out / name, media_type=media_type(name), headers=kept)


@router.get("/v1/models", responses=_errors())
async def models(request: Request) -> dict[str, Any]:
    """What can be asked for here: names of models and priors, the first of each the default; and the limits."""
    config = _state(request).config
    kinds = {kind: list(names) for kind, names in config.choices.items()}
    limits = {name: getattr(config, name) for name in ("max_body", "max_pixels", "keep_seconds")}
    return {"version": __version__, **kinds, "torch": config.can_refine, "limits": limits}


@router.get("/v1/samples", responses=_errors())
async def samples(request: Request) -> list[dict[str, Any]]:
    """Pairs to try things with."""
    found = _state(request).samples
    return [{"name": name, "left": f"/v1/samples/{name}/left.png", "right": f"/v1/samples/{name}/right.png",
             "calib": f"/v1/samples/{name}/calib.txt"} for name in found]  # fmt: skip


@router.get("/v1/samples/{name}/{file}", responses=_errors(404, 501), response_class=Response)
async def sample(request: Request, name: str, file: str) -> Response:
    """One file of a sample."""
    known = _state(request).samples
    content = (await asyncio.to_thread(known[name])).get(file) if name in known else None
    if content is None:
        raise Refusal("not_found", "there is no such sample")
    return Response(content, media_type=media_type(file))


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": ErrorAnswer}})
async def readyz(request: Request) -> JSONResponse:
    """Work is taken: models are loaded, and the server is not about to stop."""
    state = _state(request)
    if not state.guard.draining and state.quick.broken is None:
        return JSONResponse({"status": "ready"})
    problem = state.quick.broken or problem_of(Refusal("draining", "the server is about to stop"))
    return JSONResponse({"error": dict(problem)}, 503)


@router.get("/metrics", response_class=Response, responses=_errors())
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(_state(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _told(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DepthlightError):
        return answer_to(error)
    if isinstance(error, HTTPException):
        text = str(error.detail)
        return answer_to(Refusal(_CODES.get(error.status_code, "bad_input"), text.lower()))
    return answer_to(internal())  # its traceback goes to the log


def create_app(config: ServeConfig | None = None, *, samples: Samples | None = None) -> Guard:
    """The application, for :mod:`.server` or any ASGI server (one process: jobs are not shared between several).

    Args:
        config: by default that of a server on loopback.
        samples: name → what returns ``left.png``, ``right.png`` and ``calib.txt``.
    """
    config = config or ServeConfig()
    shared = State(config, samples or {})

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await shared.open()
        yield
        await shared.close()

    app = FastAPI(
        title="depthlight",
        version=__version__,
        summary="Depth from images.",
        lifespan=lifespan,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(router)
    for kind in (DepthlightError, HTTPException, Exception):
        app.add_exception_handler(kind, _told)
    if config.static is not None and config.static.is_dir():
        app.mount("/", StaticFiles(directory=config.static, html=True))
    app.state.shared = shared
    shared.guard = Guard(app, config, shared.metrics)
    return shared.guard
