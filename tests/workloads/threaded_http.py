"""http.server with a thread a connection: JPEG and blocks from disk, PIL, onnxruntime, logging, JSON."""

import _common
from server import serve


def main() -> None:
    workload = _common.Workload(_common.parser(__doc__).parse_args())
    pipeline = workload.pipeline()
    pipeline.start(workload.options.model_threads)
    whole = workload.named(pipeline, "whole")

    def work() -> bytes:
        answer: bytes = whole(next(pipeline.count))
        workload.after()
        return answer

    workload.contend()
    with _common.until_stopped():
        serve(workload.watch, work)


if __name__ == "__main__":
    main()
