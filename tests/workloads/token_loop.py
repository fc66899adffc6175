"""One thread, always busy: texts from files, tokenizers, onnxruntime, detokenise, logging."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import _common
from server import announce


def main() -> None:
    workload = _common.Workload(_common.parser(__doc__).parse_args())
    tokens = workload.pipeline("tokens", "Tokens")
    tokens.start(workload.options.model_threads)
    whole = workload.named(tokens, "whole")
    workload.watch.register()
    whole(next(tokens.count))
    announce(workload.watch, None)
    workload.contend()
    with _common.until_stopped():
        while True:
            whole(next(tokens.count))
            workload.after()


if __name__ == "__main__":
    main()
