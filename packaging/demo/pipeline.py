"""What a request costs: read files, decode and resize, run the model, log, answer. Each under its own lap.

The work is inside libraries (PIL, onnxruntime, logging, json) and the functions have names that say little:
what a function is called is the weakest evidence that a profiler has.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from inputs import make_blocks, make_images
from model import SIDE, conv_model, session
from PIL import Image
from stopwatch import Stopwatch

LINES = 100  # log lines of a request: a chatty but real server


class Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"time": self.formatTime(record), "level": record.levelname, "logger": record.name,
                           "message": record.getMessage()})


def journal(path: Path, name: str) -> logging.Logger:
    """A logger of its own file, cut at 8 MB."""
    from logging.handlers import RotatingFileHandler

    to = RotatingFileHandler(path, maxBytes=8 << 20, backupCount=1)
    to.setFormatter(Lines())
    out = logging.getLogger(name)
    out.setLevel(logging.INFO)
    out.propagate = False
    out.addHandler(to)
    return out


class Pipeline:
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self.folder, self.watch = folder, watch
        self.images, self.blocks = make_images(folder), make_blocks(folder)
        self.count = itertools.count()

    def start(self, threads: int | None, channels: int = 24) -> None:
        """Opens model and log. `threads`: of the model's pool; None: its default."""
        self.session = session(conv_model(self.folder / "model.onnx", channels), threads)
        self.journal = journal(self.folder / "server.log", "server")

    def whole(self, number: int) -> bytes:
        blob, extra = self.take(number)
        scores = self.ask(self.shape(blob), extra)
        self.note(number, scores)
        return self.reply(number, scores)

    def take(self, number: int) -> tuple[bytes, float]:
        with self.watch("data_loading"):
            blob = self.images[number % len(self.images)].read_bytes()
            extra = sum(len(path.read_bytes()) for path in self.blocks)
        return blob, extra / (1 << 30)

    def shape(self, blob: bytes) -> Any:
        with self.watch("preprocess"):
            image = Image.open(io.BytesIO(blob)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            return (np.asarray(image, np.float32) / 255).transpose(2, 0, 1)[np.newaxis]

    def ask(self, pixels: Any, extra: float) -> Any:
        with self.watch("compute"):
            return self.session.run(None, {"pixels": pixels})[0][0] + extra

    def note(self, number: int, scores: Any) -> None:
        with self.watch("logging"):
            for line in range(LINES):
                self.journal.info("request %d: step %d of %d, best %d", number, line, LINES, scores.argmax())

    def reply(self, number: int, scores: Any) -> bytes:
        with self.watch("postprocess"):
            return json.dumps({"number": number, "scores": scores.tolist()}).encode()
