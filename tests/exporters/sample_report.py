"""A report as a session would make it: an image classifier behind uvicorn, watched for ten seconds.

Built from its stacks, so that stages, states and threads add up. Seeded: the same every time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

from excise.frames import Frame, Process
from excise.names import KERNEL_STATES, STAGES, STATES, SUBSTAGES
from excise.report import HelperRow, Report, StackRow, ThreadRow

SITE = "/opt/venv/lib/python3.11/site-packages"
LIB = "/usr/lib/x86_64-linux-gnu"
NOT_MEASURED_STATE = "gpu"
"""No probe for it was attached in the sample: None in every stage."""


def py(file: str, name: str, line: int = 0) -> Frame:
    return Frame("python", file, name, line)


def nat(file: str, name: str) -> Frame:
    return Frame("native", file, name)


def ker(name: str) -> Frame:
    return Frame("kernel", "", name)


BOOT = (
    py("/usr/lib/python3.11/threading.py", "Thread._bootstrap", 1002),
    py("/usr/lib/python3.11/threading.py", "Thread._bootstrap_inner", 1045),
    py("/usr/lib/python3.11/threading.py", "Thread.run", 982),
)
POOL = (
    *BOOT,
    py(f"{SITE}/anyio/_backends/_asyncio.py", "WorkerThread.run", 805),
    py("/srv/app/main.py", "classify", 48),
)
MAIN = (
    py("/opt/venv/bin/uvicorn", "<module>", 8),
    py(f"{SITE}/uvicorn/main.py", "run", 579),
    py(f"{SITE}/uvicorn/server.py", "Server.run", 65),
    py("/usr/lib/python3.11/asyncio/runners.py", "Runner.run", 118),
    py("/usr/lib/python3.11/asyncio/base_events.py", "BaseEventLoop.run_forever", 607),
    py("/usr/lib/python3.11/asyncio/base_events.py", "BaseEventLoop._run_once", 1922),
)
ORT = f"{SITE}/onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so"
TORCH = f"{SITE}/torch/lib/libtorch_cpu.so"
MODEL = (
    py("/srv/app/model.py", "Classifier.predict", 91),
    py(f"{SITE}/torch/nn/modules/module.py", "Module._call_impl", 1747),
    py(f"{SITE}/torchvision/models/resnet.py", "ResNet.forward", 285),
)
LAYERS = tuple(
    (
        py(f"{SITE}/torch/nn/modules/container.py", "Sequential.forward", 250),
        py(f"{SITE}/torchvision/models/resnet.py", f"{block}.forward", line),
    )
    for block, line in (("BasicBlock", 92), ("Bottleneck", 146), ("Stem", 61))
)
KERNELS = (
    "at::native::conv2d",
    "mkldnn::impl::cpu::x64::jit_avx512_core_conv_fwd_t<f32>::execute_forward_thr",
    "at::native::batch_norm_cpu",
    "at::native::relu_",
    "at::native::addmm_impl_cpu_",
    "at::_ops::add__Tensor::call",
)

Case = tuple[str, "str | None", "str | None", str, str, tuple[Frame, ...], str, float]
"""stage, substage, reason, state, thread, frames root first, wait, seconds (spread over variants)."""


def _cases() -> list[Case]:
    worker = "AnyIO worker thread"
    decode = (
        *POOL,
        py("/srv/app/pipeline.py", "preprocess", 31),
        py(f"{SITE}/PIL/Image.py", "Image.convert", 995),
    )
    resize = (
        *POOL,
        py("/srv/app/pipeline.py", "preprocess", 34),
        py(f"{SITE}/PIL/Image.py", "Image.resize", 2293),
        nat(f"{SITE}/pillow.libs/_imaging.so", "ImagingResampleHorizontal_8bpc"),
    )
    tokenise = (
        *POOL,
        py("/srv/app/pipeline.py", "tokenise", 58),
        py(f"{SITE}/transformers/tokenization_utils_base.py", "PreTrainedTokenizerBase.__call__", 2877),
    )
    log = (
        *POOL,
        py("/srv/app/main.py", "audit", 73),
        py("/usr/lib/python3.11/logging/__init__.py", "Logger.info", 1489),
        py("/usr/lib/python3.11/logging/__init__.py", "StreamHandler.emit", 1113),
    )
    read = (
        *POOL,
        py("/srv/app/store.py", "fetch", 22),
        py(f"{SITE}/botocore/httpsession.py", "URLLib3Session.send", 464),
        py("/usr/lib/python3.11/ssl.py", "SSLSocket.read", 1166),
    )
    dumps = (
        *POOL,
        py(f"{SITE}/fastapi/routing.py", "serialize_response", 155),
        py("/usr/lib/python3.11/json/encoder.py", "JSONEncoder.encode", 200),
    )
    nms = (*POOL, py("/srv/app/model.py", "top_k", 120), nat(TORCH, "at::native::topk_out_cpu"))
    http = (*MAIN, py(f"{SITE}/uvicorn/protocols/http/h11_impl.py", "H11Protocol.data_received", 160))
    gc = (
        *POOL,
        py("/srv/app/model.py", "Classifier.predict", 95),
        nat("/usr/bin/python3.11", "gc_collect_main"),
    )
    run = [(*POOL, *MODEL, *layer) for layer in LAYERS]
    futex, epoll = ker("futex_wait_queue"), ker("do_epoll_wait")
    cases: list[Case] = [
        (
            "data_loading",
            None,
            None,
            "net",
            worker,
            (*read, ker("tcp_recvmsg"), ker("sk_wait_data")),
            "read inet",
            1.31,
        ),
        (
            "data_loading",
            None,
            None,
            "running_user",
            worker,
            (*read, nat(f"{LIB}/libssl.so.3", "SSL_read")),
            "",
            0.42,
        ),
        (
            "data_loading",
            None,
            None,
            "io",
            worker,
            (*POOL, py("/srv/app/store.py", "load_labels", 12), ker("folio_wait_bit_common")),
            "read file",
            0.11,
        ),
        ("preprocess", None, None, "running_user", worker, resize, "", 1.9),
        ("preprocess", None, None, "running_user", worker, (*decode, nat("", "")), "", 1.2),
        ("preprocess", None, None, "gil", worker, (*decode, futex), "futex", 0.63),
        ("preprocess", None, None, "running_user", worker, tokenise, "", 0.38),
        ("preprocess", None, None, "runnable", worker, tokenise, "", 0.09),
        ("logging", None, None, "running_user", worker, log, "", 0.41),
        (
            "logging",
            None,
            None,
            "io",
            worker,
            (*log, ker("ksys_write"), ker("ext4_sync_file")),
            "fsync",
            0.87,
        ),
        ("logging", None, None, "lock", worker, (*log, futex), "futex", 0.29),
        ("postprocess", None, None, "running_user", worker, dumps, "", 0.33),
        ("postprocess", None, None, "running_user", worker, nms, "", 0.24),
        ("serving", None, None, "running_user", "uvicorn", http, "", 0.51),
        ("serving", None, None, "running_kernel", "uvicorn", (*http, ker("tcp_sendmsg")), "", 0.17),
        ("serving", None, None, "gil", "uvicorn", (*http, futex), "futex", 0.2),
        ("runtime", None, None, "running_user", worker, gc, "", 0.16),
        (
            "handoff",
            None,
            None,
            "lock",
            worker,
            (*POOL, py("/usr/lib/python3.11/concurrent/futures/_base.py", "Future.result", 451), futex),
            "futex",
            2.1,
        ),
        (
            "idle",
            None,
            None,
            "net",
            "uvicorn",
            (*MAIN, py("/usr/lib/python3.11/selectors.py", "EpollSelector.select", 468), epoll),
            "epoll_wait",
            9.02,
        ),
        (
            "idle",
            None,
            None,
            "lock",
            worker,
            (*BOOT, py("/usr/lib/python3.11/queue.py", "Queue.get", 171), futex),
            "futex",
            12.4,
        ),
        (
            "unattributed",
            None,
            "no_rule",
            "other",
            worker,
            (*POOL, py("/srv/app/plugin.py", "Plugin.poll", 9)),
            "semtimedop",
            0.21,
        ),
        ("unattributed", None, "no_sample", "running_user", "metrics", (), "", 0.04),
        ("unattributed", None, "lost", "lock", worker, (), "futex", 0.02),
    ]
    for frames in run:
        cases += [
            ("compute", "compute.cpu", None, "running_user", worker, (*frames, nat(TORCH, k)), "", 0.28)
            for k in KERNELS
        ]
        cases.append(
            ("compute", "compute.cpu", None, "runnable", worker, (*frames, nat(TORCH, KERNELS[0])), "", 0.08)
        )
        cases.append(
            (
                "compute",
                "compute.launch",
                None,
                "running_user",
                worker,
                (*frames, nat(TORCH, "c10::Dispatcher::call")),
                "",
                0.12,
            )
        )
        cases.append(
            (
                "compute",
                "compute.cpu",
                None,
                "lock",
                worker,
                (*frames, nat(TORCH, "at::parallel_for"), futex),
                "futex",
                0.07,
            )
        )
    return cases


def make_stacks() -> tuple[StackRow, ...]:
    """About 300 rows, heaviest first: every case in variants, with a tail of small deep ones."""
    rng = random.Random(20)
    rows = []
    for stage, substage, reason, state, thread, frames, wait, seconds in _cases():
        parts = [rng.random() ** 2 + 0.02 for _ in range(7 if frames else 1)]
        for at, part in enumerate(parts):
            tail = [py("/srv/app/util.py", f"step_{rng.randrange(40)}", 10 + at) for _ in range(at // 2)]
            name = f"{thread} {at % 4}" if "worker" in thread else thread
            rows.append(
                StackRow(
                    stage=stage,
                    reason=reason,
                    substage=substage,
                    state=state,
                    frames=tuple(reversed((*frames[:-1], *tail, *frames[-1:]))),
                    ns=int(seconds * 1e9 * part / sum(parts)),
                    count=rng.randrange(1, 400),
                    pid=4242,
                    thread=name,
                    carrier=True,
                    wait=wait,
                )
            )
    for k, ns in (("gemm_thread", 3_100_000_000), ("spin_wait", 1_700_000_000)):
        rows.append(
            StackRow(
                "compute",
                None,
                "compute.cpu",
                "running_user",
                (
                    nat(ORT, f"onnxruntime::{k}"),
                    nat(ORT, "onnxruntime::concurrency::ThreadPoolTempl::WorkerLoop"),
                ),
                ns,
                300,
                4242,
                "ort-pool",
                False,
            )
        )
    return tuple(sorted(rows, key=lambda r: -r.ns))


def report_of(stacks: tuple[StackRow, ...], **changes: Any) -> Report:
    """A report whose ledger, threads and AI tax follow from these stacks."""
    stages: dict[str, dict[str, int | None]] = {
        stage: {state: None if state == NOT_MEASURED_STATE else 0 for state in STATES} for stage in STAGES
    }
    substages = {sub: dict(stages["compute"]) for sub in SUBSTAGES}
    unattributed: defaultdict[str, int] = defaultdict(int)
    for row in stacks:
        if not row.carrier:
            continue
        stages[row.stage][row.state] = (stages[row.stage][row.state] or 0) + row.ns
        if row.substage:
            substages[row.substage][row.state] = (substages[row.substage][row.state] or 0) + row.ns
        if row.reason:
            unattributed[row.reason] += row.ns
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    total = sum(sums.values())
    busy = total - sums["idle"] - sums["handoff"]
    report = Report(
        boot_id="7c5a1b0e",
        target={"pid": 4242, "comm": "uvicorn", "collector": "bpf"},
        processes=(
            Process(4242, 918_000_000, "uvicorn", "3.11.7"),
            Process(4250, 919_000_000, "python3", "3.11.7", 4242),
        ),
        host={
            "cpus": 16,
            "quota_cpus": 4.0,
            "throttled_ns": 310_000_000,
            "cpus_used": 1.93,
            "rss_bytes": 1_912_602_624,
            "disk_read_bytes": 1_048_576,
            "disk_write_bytes": 9_122_611,
            "net_in_bytes": None,
            "net_out_bytes": None,
        },
        start_wall_ns=1_760_000_000_000_000_000,
        start_mono_ns=1,
        duration_ns=10_000_000_000,
        end_reason="duration",
        rate_hz=99.0,
        stages=stages,
        stages_se_ns={stage: int(ns * 0.02) if stage != "serving" else None for stage, ns in sums.items()},
        substages=substages,
        helpers=(
            HelperRow(
                "onnxruntime",
                3,
                4_800_000_000,
                dict.fromkeys(KERNEL_STATES, 0)
                | {"running": 4_800_000_000, "runnable": 90_000_000, "lock": 25_000_000_000},
            ),
        ),
        ai_tax_ratio=1 - sums["compute"] / busy if busy else None,
        ai_tax_se=0.011 if busy else None,
        quality={
            "samples": 1842,
            "lost": {"ring_full": 12, "walk_fault": 0, "frame_gone": 3},
            "unattributed": dict(unattributed),
            "unattributed_ratio": sums["unattributed"] / total if total else None,
            "schedstat": {"running_ratio": 0.998, "runnable_ratio": 1.01},
        },
        overhead={"agent_cpu_ratio": 0.0061, "bpf_cpu_ratio": 0.0032, "startup_cpu_s": 0.84},
        threads=_threads(stacks),
        stacks=stacks,
        notes=("Awaited I/O of an event loop is not thread time: it is in none of these numbers.",),
    )
    return replace(report, **changes)


def make_report(**changes: Any) -> Report:
    return report_of(make_stacks(), **changes)


def _threads(stacks: tuple[StackRow, ...]) -> tuple[ThreadRow, ...]:
    names = sorted({(row.thread, row.carrier) for row in stacks})
    threads = []
    for at, (name, carrier) in enumerate(names):
        states = dict.fromkeys(KERNEL_STATES, 0)
        stages = dict.fromkeys(STAGES, 0)
        for row in stacks:
            if (row.thread, row.carrier) == (name, carrier):
                states["running" if row.state.startswith("running") else row.state] += row.ns
                stages[row.stage] += row.ns if carrier else 0
        threads.append(
            ThreadRow(
                4242,
                4242 + at,
                name,
                carrier,
                sum(states.values()),
                states,
                stages,
                100,
                int(states["running"] * 1.002),
                int(states["runnable"] * 0.99),
            )
        )
    return tuple(threads)
