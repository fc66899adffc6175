"""What every workload offers: its options, its folder, its clock, and work that is no stage's."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "packaging" / "demo"
sys.path.insert(0, str(DEMO))

from children import die_with_parent  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402

RENAMED = {"pipeline": ["Pipeline", "whole", "take", "shape", "ask", "note", "reply", "Lines"],
           "tokens": ["Tokens", "whole", "take", "shape", "ask", "note", "reply"],
           "extras": ["mix", "rest", "Extras", "after", "drone"]}
"""User code by module: with --renamed these names become f1, f2, ... and the file _renamed_*.py."""


def parser(description: str | None) -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--folder", type=Path, required=True, help="for inputs, model, log and clock")
    out.add_argument("--model-threads", type=lambda text: None if text == "default" else int(text), default=1,
                     help="size of the model's pool, or 'default'")
    out.add_argument("--gil-contention", action="store_true", help="two more threads log without a pause")
    out.add_argument("--unknown", type=float, default=0.0, metavar="RATIO",
                     help="share of each thread's busy time spent in arithmetic that no rule can know")
    out.add_argument("--sleep-ms", type=float, default=0.0, help="time.sleep inside each request")
    out.add_argument("--renamed", action="store_true", help="user functions are f1..fn, of another file")
    return out


class Workload:
    """The parts that the four share. `self.after()` belongs at the end of each request."""

    def __init__(self, options: argparse.Namespace) -> None:
        die_with_parent()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.options, self.folder = options, options.folder
        self.watch = Stopwatch(self.folder / "clock")
        kind = self.user("extras")
        self._extras = self.named(kind, "Extras")(self.watch, options.unknown, options.sleep_ms)
        self.after: Callable[[], None] = self.named(self._extras, "after")

    def user(self, name: str) -> ModuleType:
        """A module of user code, renamed if that was asked for."""
        home = DEMO if (DEMO / f"{name}.py").exists() else HERE
        return _load(home / f"{name}.py", self.folder if self.options.renamed else None)

    def named(self, owner: Any, name: str) -> Any:
        """`owner.name`, whatever it is called now."""
        return getattr(owner, _NEW[name] if self.options.renamed else name)

    def pipeline(self, module: str = "pipeline", kind: str = "Pipeline") -> Any:
        """Its methods are `self.named(pipeline, "take")` and so on. `start` opens model and log."""
        return self.named(self.user(module), kind)(self.folder, self.watch)

    def contend(self) -> None:
        """--gil-contention: pure Python in a library, on two more threads, until the process ends."""
        if self.options.gil_contention:
            journal = self.user("pipeline").journal
            for i in range(2):
                log = journal(self.folder / f"contention{i}.log", f"contention{i}")
                run = self.named(self._extras, "drone")
                threading.Thread(target=run, args=(log,), name=f"drone-{i}", daemon=True).start()


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """SIGTERM ends the process at once: its threads may be inside the model."""
    with contextlib.suppress(KeyboardInterrupt):
        yield
    os._exit(0)


_NEW = {name: f"f{i + 1}" for i, name in enumerate(sorted({n for group in RENAMED.values() for n in group}))}
_WORD = re.compile(r"\b(" + "|".join(_NEW) + r")\b")


def _load(source: Path, into: Path | None) -> ModuleType:
    path = source
    if into is not None:
        path = into / f"_renamed_{sorted(RENAMED).index(source.stem)}.py"
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    if into is not None:
        whole = path.with_suffix(f".{os.getpid()}")
        whole.write_text(_WORD.sub(lambda found: _NEW[found[0]], source.read_text()))
        whole.replace(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
