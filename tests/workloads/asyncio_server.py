"""uvicorn and FastAPI: the handler hands files and model to a ThreadPoolExecutor, and logs itself."""

import asyncio
import queue
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import _common
import uvicorn
from fastapi import FastAPI, Response
from server import announce
from stopwatch import Stopwatch


class Selector(selectors.EpollSelector):
    """The loop's, with a lap around its wait."""

    watch: Stopwatch

    def select(self, timeout: float | None = None) -> Any:
        with self.watch("idle"):
            return super().select(timeout)


class Tray(queue.SimpleQueue):  # type: ignore[type-arg]
    """The executor's work queue, with a lap around its wait."""

    watch: Stopwatch

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block:
            return super().get(block=False)
        with self.watch("idle"):
            return super().get(block=True, timeout=timeout)


def build(workload: _common.Workload, pool: ThreadPoolExecutor) -> FastAPI:
    app, pipeline = FastAPI(), workload.pipeline()
    pipeline.start(workload.options.model_threads)
    take, shape, ask, note, reply = (workload.named(pipeline, name)
                                     for name in ("take", "shape", "ask", "note", "reply"))

    def first(number: int) -> Any:
        blob, extra = take(number)
        out = shape(blob), extra
        workload.after()
        return out

    def second(pixels: Any, extra: float) -> Any:
        scores = ask(pixels, extra)
        workload.after()
        return scores

    @app.get("/infer")
    async def infer() -> Response:
        number, loop = next(pipeline.count), asyncio.get_running_loop()
        pixels, extra = await loop.run_in_executor(pool, first, number)
        scores = await loop.run_in_executor(pool, second, pixels, extra)
        note(number, scores)
        return Response(reply(number, scores), media_type="application/json")

    @app.get("/truth")
    async def truth() -> dict[str, Any]:
        return workload.watch.truth()

    return app


def main() -> None:
    workload = _common.Workload(_common.parser(__doc__).parse_args())
    watch = Selector.watch = Tray.watch = workload.watch
    pool = ThreadPoolExecutor(2, thread_name_prefix="pool", initializer=watch.register, initargs=("serving",))
    pool._work_queue = Tray()
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build(workload, pool), access_log=False, log_level="warning"))
    workload.contend()
    loop = asyncio.SelectorEventLoop(Selector())
    watch.register("serving")
    announce(watch, listening.getsockname()[1])
    with _common.until_stopped():
        loop.run_until_complete(server.serve(sockets=[listening]))


if __name__ == "__main__":
    main()
