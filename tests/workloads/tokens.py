"""What a text costs: read it, encode it, run the model, decode the answer, log. Nothing is downloaded."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from model import session, token_model
from pipeline import journal
from stopwatch import Stopwatch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = 32
WORDS = 30_000
CHARACTERS = 40_000  # of a text are encoded
USED = 1024          # tokens of it are seen by the model
LINES = 150


def make_texts(folder: Path) -> list[Path]:
    random = np.random.default_rng(11)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = np.array(["".join(random.choice(letters, length)) for length in random.integers(2, 10, 4000)])
    out = []
    for i in range(TEXTS):
        path = folder / f"{i:04}.txt"
        path.write_text(" ".join(words[np.minimum(random.zipf(1.3, WORDS), 4000) - 1]))
        out.append(path)
    return out


class Tokens:
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self.folder, self.watch = folder, watch
        self.texts = make_texts(folder)
        self.tokenizer = Tokenizer(models.BPE())
        self.tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(vocab_size=3000, show_progress=False)
        self.tokenizer.train_from_iterator([path.read_text() for path in self.texts[:4]], trainer)
        self.count = itertools.count()

    def start(self, threads: int | None) -> None:
        path = token_model(self.folder / "model.onnx", self.tokenizer.get_vocab_size())
        self.session = session(path, threads)
        self.journal = journal(self.folder / "server.log", "server")

    def whole(self, number: int) -> str:
        ids = self.shape(self.take(number))
        scores = self.ask(ids)
        answer = self.reply(scores)
        self.note(number, ids)
        return answer

    def take(self, number: int) -> str:
        with self.watch("data_loading"):
            texts = [path.read_text() for path in self.texts]
        return texts[number % len(texts)]

    def shape(self, text: str) -> Any:
        with self.watch("preprocess"):
            return np.array(self.tokenizer.encode(text[:CHARACTERS]).ids[:USED], np.int64)

    def ask(self, ids: Any) -> Any:
        with self.watch("compute"):
            return self.session.run(None, {"ids": ids})[0]

    def reply(self, scores: Any) -> str:
        with self.watch("postprocess"):
            return str(self.tokenizer.decode(scores.argmax(axis=1).tolist() * 4))

    def note(self, number: int, ids: Any) -> None:
        with self.watch("logging"):
            for line in range(LINES):
                self.journal.info("text %d: step %d of %d, %d tokens", number, line, LINES, len(ids))
