"""Pictures scored over HTTP: what a request may be, and what is answered."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from anomaly_gan.data.decode import claimed_pixels
from anomaly_gan.errors import UserError
from anomaly_gan.names import printable
from anomaly_gan.serving.batching import Batches, TooManyError
from anomaly_gan.serving.metrics import Metrics
from anomaly_gan.watching.journal import Row
from anomaly_gan.watching.stream import Stream

FORM = "multipart/form-data"

BROKEN = "rows can no longer be kept"


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    megabytes: float
    """Of its body."""
    all_megabytes: float
    """Of the bodies of all requests that have not been answered."""
    pictures: int
    """In it."""
    megapixels: float
    """Of one picture, as it claims: a small file may hold a huge one."""
    seconds: float
    """From its first byte to its answer."""
    waiting: int
    """Pictures of all requests that wait to be scored."""

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            UserError: one is no number above 0, or no whole one, or one of a request above that of all.
        """
        for name, value in asdict(self).items():
            kind = int if name in ("pictures", "waiting") else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
                whole = "whole " if kind is int else ""
                raise UserError(f"limits.{name}={value}: give a {whole}number above 0")
        for small, large in (("pictures", "waiting"), ("megabytes", "all_megabytes")):
            of_one, of_all = getattr(self, small), getattr(self, large)
            if of_one > of_all:
                raise UserError(
                    f"limits.{small}={of_one}: of one request, above limits.{large}={of_all} of all"
                )


@dataclass(frozen=True)
class Picture:
    """One that was sent."""

    name: str | None
    """In Unicode that can be encoded: clients may send halves of characters."""
    content: bytes

    @classmethod
    def named(cls, name: str | None, content: bytes) -> "Picture":
        """With a name as a client sent it."""
        return cls(None if name is None else name.encode(errors="backslashreplace").decode(), content)


class Service:
    """The application: `app` answers, `batches` scores.

    Args:
        stream: which scores, keeps rows, and tests whether the pictures have changed.
        limits: of requests.
        batch_size: pictures scored at a time.
        alarm: called when the stream alarms, in a thread of its own.
        stop: called when rows can no longer be kept; requests are refused from then on.
    """

    def __init__(
        self,
        stream: Stream,
        limits: Limits,
        batch_size: int,
        alarm: Callable[[], None],
        stop: Callable[[OSError], None],
    ):
        self.stream, self.limits, self.batch_size = stream, limits, batch_size
        self.alarm, self.stop = alarm, stop
        self.broken = False
        self._held = 0  # bytes of requests that have not been answered
        self.batches = Batches(self._score, batch_size, limits.waiting)
        self.metrics = Metrics(stream, self.batches)
        # No pages of its own: they would load scripts from elsewhere.
        self.app = FastAPI(title="anomaly_gan", docs_url=None, redoc_url=None, lifespan=self._lifespan)
        self.app.post("/predict")(self.predict)
        self.app.get("/health")(self.health)
        self.app.get("/metrics")(self.show_metrics)
        self.app.exception_handler(AnyHTTPException)(self._refuse)
        self.app.exception_handler(Exception)(self._fail)

    async def predict(self, request: Request) -> JSONResponse:
        """Score one picture, the body, or many, the files of a form (multipart/form-data).

        A single picture that cannot be read is refused (422); of many, each says what was wrong with it.
        """
        try:
            return await self._predict(request)
        finally:
            self._held -= getattr(request.state, "received", 0)

    async def _predict(self, request: Request) -> JSONResponse:
        began = time.perf_counter()
        pictures = await self._received(request)
        for picture in pictures:
            if claimed_pixels(picture.content) > self.limits.megapixels * 1e6:
                name = "a picture" if picture.name is None else printable(picture.name)
                raise HTTPException(413, f"{name}: more than {self.limits.megapixels:g} megapixels")
        try:
            async with asyncio.timeout(self.limits.seconds - (time.perf_counter() - began)):
                rows = await self.batches.result(pictures)
        except TooManyError:
            raise HTTPException(503, "too many pictures wait already", {"Retry-After": "1"}) from None
        except TimeoutError:
            raise HTTPException(503, f"not scored in {self.limits.seconds:g} seconds") from None
        self.metrics.seconds.observe(time.perf_counter() - began)
        if not _is_form(request) and rows[0]["error"] is not None:
            raise HTTPException(422, rows[0]["error"])
        return JSONResponse({"predictions": [_told(row) for row in rows]})

    async def health(self) -> dict[str, Any]:
        """Whether pictures are scored, by what, and how the test stands."""
        if self.broken:
            raise HTTPException(503, BROKEN)
        detector = self.stream.detector
        return {"status": "ok", "score": detector.primary, "drift": self.stream.state()}

    async def show_metrics(self) -> Response:
        """For Prometheus."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _received(self, request: Request) -> list[Picture]:
        """The pictures of a request, read within the limits."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                if _is_form(request):
                    return await self._of_form(request)
                content = b"".join([chunk async for chunk in self._body(request)])
                return [Picture.named(request.query_params.get("name"), content)]
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        except TimeoutError:
            raise HTTPException(408, f"no whole request in {self.limits.seconds:g} seconds") from None

    async def _of_form(self, request: Request) -> list[Picture]:
        most = self.limits.pictures
        parser = MultiPartParser(request.headers, self._body(request), max_files=most, max_fields=0)
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError) as error:
            told = getattr(error, "message", "the form has no boundary")
            raise HTTPException(413 if "Too many files" in told else 400, told) from None
        try:
            files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
            pictures = [Picture.named(file.filename, await file.read()) for file in files]
        finally:
            await form.close()
        if not pictures:
            raise HTTPException(400, "the form has no files")
        return pictures

    async def _body(self, request: Request) -> AsyncGenerator[bytes, None]:
        most, most_of_all = int(self.limits.megabytes * 1e6), int(self.limits.all_megabytes * 1e6)
        request.state.received = 0
        async for chunk in request.stream():
            request.state.received += len(chunk)
            self._held += len(chunk)
            if request.state.received > most:
                raise HTTPException(413, f"more than {self.limits.megabytes:g} MB")
            if self._held > most_of_all:
                raise HTTPException(503, "too much waits already", {"Retry-After": "1"})
            yield chunk

    def _score(self, pictures: Sequence[Picture]) -> list[Row]:
        """The rows of a batch, which are kept when this returns."""
        if self.broken:
            raise HTTPException(503, BROKEN)
        contents = (picture.content for picture in pictures)
        predictions = [*self.stream.detector.examine(contents, self.batch_size)]
        known = [
            {"file": picture.name, "modified": None, "size": len(picture.content)} for picture in pictures
        ]
        try:
            rows = self.stream.add(known, predictions)
        except OSError as error:
            self.broken = True
            self.stop(error)
            raise HTTPException(503, BROKEN) from error
        self.metrics.count(rows)
        if any(row["alarm"] for row in rows):
            Thread(target=self.alarm).start()  # the next pictures do not wait for it
        return rows

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        scoring = asyncio.create_task(self.batches.run())
        yield
        scoring.cancel()
        await asyncio.wait([scoring])

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """What went wrong, in a line of JSON."""
        assert isinstance(error, AnyHTTPException)
        self.metrics.refused.labels(str(error.status_code)).inc()
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def _fail(self, request: Request, error: Exception) -> Response:
        """A fault of this program; the log has where."""
        return JSONResponse({"error": "internal error"}, 500)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def _told(row: Row) -> dict[str, Any]:
    """What is answered of a picture."""
    return {name: row[name] for name in ("file", "score", "p_value", "decision", "error", "rank", "alarm")}
