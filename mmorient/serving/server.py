"""A model as a web service: `python -m serving.server MODEL` in a published model's folder.

    POST /predict           answers to a request, as handler.py describes it
    GET /health             200 once the model is there
    GET /metrics            numbers for Prometheus
    POST, DELETE /references  teach and forget references; only where the server was started with a token
    GET /docs               this as an OpenAPI page

What does not fit is answered with `{"error": ...}`, which names the field: status 400; 413 where the body is
too large, 503 where too many requests wait.
"""

import argparse
import asyncio
import hmac
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

# Relative, because this package has another name where it is published.
from .batching import Batcher, Busy
from .metrics import Metrics

# Of one request's body.
MOST_BYTES = 32_000_000
# Requests that are read (images fetched, decoded, texts tokenized) at the same time.
READERS = 8
# Of a token: shorter ones can be guessed.
TOKEN_CHARACTERS = 16
logger = logging.getLogger("mmorient.serving")

PREDICT = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"description": "a row {image, text}, an image alone, or a list of rows"},
        "parameters": {
            "type": "object",
            "properties": {
                "top_k": {"type": "integer", "minimum": 1},
                "tasks": {"type": "array", "items": {"type": "string"}},
                "function_to_apply": {"enum": ["softmax", "sigmoid", "none"]},
                "explain": {"type": "boolean"},
            },
        },
    },
    "example": {"inputs": {"text": "what a lovely day"}, "parameters": {"top_k": 1}},
}
REFERENCES = {
    "type": "object",
    "required": ["references"],
    "properties": {"references": {"type": "array"}, "replace": {"type": "boolean"}},
    "example": {
        "references": [{"id": "a", "text": "what a lovely day", "labels": {"sentiment": "positive"}}]
    },
}


class Refused(Exception):
    """A request that is answered with an error: status and what is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """What the routes of a server do.

    Args:
        pipeline: An `MMOrientPipeline`.
        batcher: Of it.
        token: That edits of references must carry; None: there are none.
    """

    def __init__(self, pipeline: Any, batcher: Batcher, token: str | None) -> None:
        self.pipeline, self.batcher, self.token = pipeline, batcher, token
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self.metrics = Metrics()

    async def predict(self, request: Request) -> Any:
        """Answers to the body of a request."""
        read = await self._read(request, self.pipeline.read_request)
        return await asyncio.wrap_future(self.batcher.submit(read))

    async def teach(self, request: Request) -> dict[str, int]:
        """Add or replace references."""
        self._check_token(request)
        inputs, ids, labels, replace = await self._read(request, self.pipeline.read_references)
        model = self.pipeline.model
        change = model.replace_references if replace else model.add_references
        return await self._edit(lambda: change(inputs, ids, labels))

    async def forget(self, request: Request) -> dict[str, int]:
        """Remove the references of the ids in the address."""
        self._check_token(request)
        ids = request.query_params.getlist("id")
        if not ids:
            raise Refused(400, "`id` is missing; name the references to remove: /references?id=a&id=b")
        return await self._edit(lambda: self.pipeline.model.remove_references(ids))

    async def _edit(self, edit: Callable[[], None]) -> dict[str, int]:
        def edited() -> dict[str, int]:
            try:
                edit()
            except ValueError as error:  # an id that is there already, or is not
                raise Refused(400, str(error)) from None
            return {"references": len(self.pipeline.model.references)}

        return await asyncio.wrap_future(self.batcher.run(edited))

    def _check_token(self, request: Request) -> None:
        if self.token is None:
            raise Refused(404, "the server was started without a token: references cannot be changed")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # In a time that does not tell how much of it is right.
        right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refused(403, "the request lacks the server's token: send `Authorization: Bearer TOKEN`")

    async def _read(self, request: Request, read: Callable[[Any], Any]) -> Any:
        """What a reader of the pipeline makes of a request's body."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise Refused(413, f"the body has more than {MOST_BYTES} bytes; send fewer rows")

        def parsed() -> Any:
            try:
                data = json.loads(bytes(body))
            except (ValueError, RecursionError) as error:
                raise Refused(400, f"the body is no JSON in UTF-8: {error}") from None
            try:
                return read(data)
            except ValueError as error:
                raise Refused(400, str(error)) from None

        return await asyncio.get_running_loop().run_in_executor(self.readers, parsed)

    async def answer(self, route: str, work: Callable[[Request], Any], request: Request) -> Response:
        """A route's answer, whatever happens, and its time."""
        with self.metrics.timed(route) as seen:
            try:
                return JSONResponse(await work(request))
            except Refused as error:
                seen.status, message = error.status, str(error)
            except Busy as error:
                seen.status, message = 503, str(error)
            except Exception:
                logger.exception("%s failed", route)
                seen.status, message = 500, "the model could not answer; the server's log says why"
            return JSONResponse({"error": message}, seen.status)


def create_app(pipeline: Any, token: str | None = None, batcher: Batcher | None = None) -> FastAPI:
    """The application of a model.

    Args:
        pipeline: An `MMOrientPipeline`.
        token: That edits of references must carry. Default: there are no edits.
        batcher: Default: a new one.
    """
    service = Service(pipeline, batcher or Batcher(pipeline), token)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.readers.shutdown()
        await asyncio.to_thread(service.batcher.close)

    app = FastAPI(title="MM-ORIENT", lifespan=lifespan)
    app.state.service = service

    @app.post("/predict", openapi_extra=_body(PREDICT))
    async def predict(request: Request) -> Response:
        """Answers to a row or a list of rows; the module `handler.py` describes both."""
        return await service.answer("/predict", service.predict, request)

    @app.post("/references", openapi_extra=_body(REFERENCES))
    async def teach(request: Request) -> Response:
        """Add references, or with `replace` put others in the place of those of the same ids."""
        return await service.answer("/references", service.teach, request)

    @app.delete("/references")
    async def forget(request: Request) -> Response:
        """Remove the references `?id=a&id=b`."""
        return await service.answer("/references", service.forget, request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        gauges = {
            "batches_total": ("counter", service.batcher.batches),
            "rows_total": ("counter", service.batcher.rows),
            "waiting": ("gauge", service.batcher.waiting),
            "references": ("gauge", len(pipeline.model.references)),
        }
        return PlainTextResponse(service.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    return app


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def read_token(path: str | Path) -> str:
    """The token in a file.

    Raises:
        ValueError: If it is short, or has characters that an HTTP header cannot hold.
    """
    token = Path(path).read_text(encoding="utf-8").strip()
    if len(token) < TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{path} holds no token of at least {TOKEN_CHARACTERS} letters, digits and signs: make one with "
            "`openssl rand -hex 32`."
        )
    return token


def serve(pipeline: Any, host: str, port: int, token_file: str | Path | None = None) -> None:
    """Serve a model until the process is told to stop.

    Args:
        pipeline: An `MMOrientPipeline`.
        host, port: Where to listen.
        token_file: File of the token that edits of references must carry. None: there are no edits.
    """
    app = create_app(pipeline, None if token_file is None else read_token(token_file))
    uvicorn.run(app, host=host, port=port, log_level="warning")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the model in a folder with the code that lies there."""
    parser = argparse.ArgumentParser(prog="python -m serving.server", description="Serve a published model.")
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument("--token_file", metavar="FILE", help="of a token that edits of references carry")
    arguments = parser.parse_args(argv)
    from transformers import pipeline

    answering = pipeline("image-classification", model=arguments.model, trust_remote_code=True)
    try:
        serve(answering, arguments.host, arguments.port, arguments.token_file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
