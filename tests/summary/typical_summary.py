"""A busy server's windows, made up: as many classes, states, lengths and stacks as a real one has, or more."""

import random
from collections.abc import Iterator

from excise.frames import Frame, Process
from excise.summary import Histogram, Span, Summary, SummaryBuilder

WINDOW_NS = 10_000_000_000
START_WALL_NS = 1_790_000_000 * 1_000_000_000
CLASSES = ("data_loading", "preprocess", "compute.launch", "compute.cpu", "logging", "postprocess", "serving",
           "runtime", "idle", "unattributed.no_rule")
WAITS = ("gil", "lock", "io", "net", "sleep", "other")
MODULES = ("uvicorn/protocols/http/h11_impl.py", "starlette/routing.py", "app/model.py", "app/preprocess.py",
           "torch/nn/modules/module.py", "PIL/Image.py", "logging/__init__.py", "json/encoder.py",
           "transformers/tokenization_utils_fast.py", "concurrent/futures/thread.py", "threading.py")


def lengths(random: random.Random) -> Histogram:
    """Eight decades, 100 buckets: most waits are short, some are long."""
    centres = [random.uniform(4, 8) for _ in range(3)]
    values = [10 ** random.gauss(random.choice(centres), 0.2) for _ in range(random.randint(150, 450))]
    values += [10 ** random.uniform(1.5, 9.5) for _ in range(15)]
    return Histogram.of(round(value) for value in values)


def stack(random: random.Random, number: int) -> list[Frame]:
    """Eight to thirty frames; the outer ones are the same in many."""
    outer = [Frame("python", f"/opt/venv/lib/python3.11/site-packages/{MODULES[i % 3]}", f"Route.call_{i}", 40 + i)
             for i in range(random.randint(4, 15))]
    inner = [Frame("python", f"/opt/venv/lib/python3.11/site-packages/{random.choice(MODULES)}",
                   f"Class{number}.method_{i}", random.randint(1, 900)) for i in range(random.randint(3, 14))]
    return [Frame("native", "/usr/lib/libtorch_cpu.so", f"at::native::kernel_{number}(at::Tensor const&)"),
            *reversed(inner), *reversed(outer)]


def window(seed: int, index: int, processes: int = 1, stacks: int = 50) -> Summary:
    """The `index`-th window of a server. Its stacks are the same in every window, their times are not."""
    random_ = random.Random(f"{seed} {index}")
    start, mono = START_WALL_NS + index * WINDOW_NS, 86_400_000_000_000 + index * WINDOW_NS + 12_345
    builder = SummaryBuilder(
        boot_id="9a1b6c1e-6a7c-4d3a-9d5e-2f1c0b3a4d5e", version="0.2.0", collector="bpf", rate_hz=99,
        capabilities=[f"bpf.feature_{i}" for i in range(20)],
        span=Span(start, start + WINDOW_NS, mono, mono + WINDOW_NS + random_.randint(-40_000, 40_000)))
    for number in range(processes):
        process = builder.process(Process(4242 + number, 123_456_789_000 + number, "uvicorn", "3.11.7", 4241),
                                  root=number == 0)
        _fill(builder, process, random_, seed, stacks)
    variances: dict[str, float | None] = {name.partition(".")[0]: random_.uniform(1e8, 1e10) for name in CLASSES}
    builder.errors(variances, random_.uniform(1e8, 1e10), random_.uniform(1e8, 1e10), random_.uniform(-1e9, 1e9))
    cpu_ns = random_.randint(10**9, 2 * 10**10)
    return builder.build(
        kpis={"cpu_ns": cpu_ns, "throttled_ns": random_.randint(0, 10**9), "quota_millicpus": None, "allowed_cpus": 8,
              "rss_bytes": random_.randint(10**9, 2 * 10**9), "disk_read_bytes": random_.randint(0, 10**8),
              "disk_write_bytes": random_.randint(0, 10**7), "net_in_bytes": random_.randint(0, 10**8),
              "net_out_bytes": random_.randint(0, 10**8), "threads": 48, "carriers": 41, "listen_ports": 1},
        quality={"samples": random_.randint(500, 2000), "carrier_samples": random_.randint(100, 500),
                 "running_ns": cpu_ns, "sched_running_ns": cpu_ns + random_.randint(-10**6, 10**6),
                 "runnable_ns": cpu_ns // 9, "sched_runnable_ns": cpu_ns // 9 + random_.randint(0, 10**6)},
        cost={"agent_ns": random_.randint(10**7, 10**8), "bpf_ns": random_.randint(10**7, 10**8),
              "tick_ns": random_.randint(10**6, 10**7), "target_cpu_ns": cpu_ns},
        lost={"ring_full": random_.randint(0, 500), "stack_lost": 3, "walk_fault": random_.randint(0, 40),
              "walk_truncated": 0, "frame_gone": 17},
        steps={"full": WINDOW_NS - 2 * 10**9, "walk_1_in_4": 2 * 10**9})


def windows(count: int, seed: int = 1, processes: int = 1, stacks: int = 50) -> Iterator[Summary]:
    return (window(seed, index, processes, stacks) for index in range(count))


def _fill(builder: SummaryBuilder, process: int, random_: random.Random, seed: int, stacks: int) -> None:
    room: dict[tuple[str, str], int] = {}
    for i, name in enumerate(CLASSES):
        waits = WAITS[i % 3:i % 3 + 2]
        for state in ("running_user", "running_kernel", "runnable", *waits):
            ns = round(10 ** random_.uniform(5.5, 10))
            exact = not state.startswith("running")
            builder.cell(process, name, state, ns, 0 if exact else random_.uniform(1e6, 1e9))
            room[name, state] = ns
        builder.lengths(process, name, "", lengths(random_))
    for library in ("libgomp.so.1", "libonnxruntime.so.1.17", "libtorch_cpu.so"):
        states = {"running": random_.uniform(1e8, 1e10), "runnable": random_.uniform(1e6, 1e9),
                  "lock": random_.uniform(1e8, 1e10)}
        builder.helper(process, library, random_.randint(1, 8), states)
    fixed = random.Random(f"{seed} {process}")
    cells = list(room)
    for number in range(stacks):
        frames, (name, state) = stack(fixed, number), fixed.choice(cells)
        ns = random_.uniform(0.05, 0.6) * room[name, state]
        room[name, state] -= int(ns) + 1
        builder.stack(process, name, state, frames, ns, random_.randint(1, 400))
