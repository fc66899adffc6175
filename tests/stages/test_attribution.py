"""Who decides: the innermost frame that a rule knows, unless a caller claims it; and who does not."""

# ruff: noqa: E501 - a stack, or a case, is one line

from __future__ import annotations

import pytest

from excise.frames import Frame
from excise.stages import Rules, ThreadContext, Verdict, Wait, parse_example

RULES = Rules.load(system_dir=None)

HTTP = ("http/server.py:BaseHTTPRequestHandler.handle_one_request < http/server.py:BaseHTTPRequestHandler.handle < "
        "socketserver.py:BaseRequestHandler.__init__ < socketserver.py:ThreadingMixIn.process_request_thread < "
        "threading.py:Thread.run < threading.py:Thread._bootstrap_inner < threading.py:Thread._bootstrap")
UVICORN = ("fastapi/routing.py:run_endpoint_function < starlette/routing.py:Route.handle < "
           "uvicorn/protocols/http/h11_impl.py:RequestResponseCycle.run_asgi < asyncio/events.py:Handle._run < "
           "asyncio/base_events.py:BaseEventLoop._run_once < asyncio/base_events.py:BaseEventLoop.run_forever < "
           "uvicorn/server.py:Server.run < app.py:main < app.py:<module>")
FORMATTER = ("app.py:Lines.format < logging/__init__.py:Handler.format < logging/handlers.py:RotatingFileHandler.shouldRollover < "
             "logging/__init__.py:Handler.handle < logging/__init__.py:Logger.info")


def verdict(text: str, rules: Rules = RULES) -> Verdict:
    example = parse_example(text)
    return rules.attribute(example.frames, example.wait, example.thread)


def stage(text: str) -> str:
    found = verdict(text)
    return found.substage or (f"unattributed({found.reason})" if found.reason else found.stage)


NO_RULE = "unattributed(no_rule)"


@pytest.mark.parametrize("wait", ["", " @ gil futex", " @ runnable", " @ stolen", " @ lock futex"])
def test_a_thread_in_resize_is_preprocess_whatever_it_waits_for(wait: str) -> None:
    assert stage(f"PIL/Image.py:Image.resize < app.py:shape < {HTTP}{wait}") == "preprocess"


@pytest.mark.parametrize(("stack", "expected"), [
    (FORMATTER, "logging"),
    ("starlette/responses.py:JSONResponse.render < starlette/responses.py:Response.__init__ < app.py:handle", "postprocess"),
    ("starlette/requests.py:Request.json < app.py:handle", "serving"),
    ("app.py:reply < " + HTTP, "postprocess"),
    ("<frozen importlib._bootstrap_external>:SourceLoader.exec_module < app.py:main", "runtime"),
    ("wandb/sdk/wandb_run.py:Run.log < app.py:train", "logging"),
])
def test_json_belongs_to_whoever_called_it(stack: str, expected: str) -> None:
    assert stage(f"json/encoder.py:JSONEncoder.encode < json/__init__.py:dumps < {stack}") == expected


def test_a_tensor_operation_belongs_to_whoever_called_it() -> None:
    leaf = "libtorch_cpu.so!at::native::add < torch/nn/functional.py:f < "
    assert stage(leaf + "app.py:handle") == "compute.cpu"
    assert stage(leaf + "torchvision/transforms/functional.py:normalize < app.py:handle") == "preprocess"
    assert stage(leaf + "torch/utils/data/_utils/collate.py:default_collate < app.py:handle") == "preprocess"
    assert stage(leaf + "app.py:Cats.__getitem__ < torch/utils/data/_utils/fetch.py:_MapDatasetFetcher.fetch") == "data_loading"
    assert stage(leaf + "transformers/generation/logits_process.py:TopKLogitsWarper.__call__ < app.py:x") == "postprocess"


def test_code_that_no_rule_knows_is_not_its_callers() -> None:
    assert stage(f"app.py:mix < app.py:handle < {UVICORN}") == NO_RULE
    assert stage(f"app.py:mix < app.py:Handler.do_GET < {HTTP}") == NO_RULE
    assert stage("app.py:mix < concurrent/futures/thread.py:_WorkItem.run < concurrent/futures/thread.py:_worker") == NO_RULE
    assert stage("app.py:mix < app.py:main < app.py:<module>") == NO_RULE


def test_some_callers_speak_for_the_users_code() -> None:
    assert stage(FORMATTER) == "logging"
    assert stage("app.py:Net.forward < torch/nn/modules/module.py:Module._call_impl < app.py:handle") == "compute.cpu"
    assert stage("app.py:Blur.__call__ < torchvision/transforms/transforms.py:Compose.__call__ < app.py:f") == "preprocess"
    assert stage("app.py:Cats.__getitem__ < torch/utils/data/_utils/fetch.py:_MapDatasetFetcher.fetch") == "data_loading"
    assert stage("app.py:<module> < <frozen importlib._bootstrap>:_call_with_frames_removed < main.py:main") == "runtime"


def test_a_sleep_inside_a_request_is_not_idle() -> None:
    assert stage(f"app.py:rest < app.py:Handler.do_GET < {HTTP} @ sleep clock_nanosleep") == NO_RULE
    assert stage(f"app.py:rest < {UVICORN} @ sleep clock_nanosleep main") == NO_RULE
    assert stage("app.py:preprocess < app.py:main @ sleep clock_nanosleep main") == NO_RULE
    assert stage("app.py:Slow.emit < logging/__init__.py:Handler.handle < app.py:f @ sleep clock_nanosleep") == "logging"
    assert stage("urllib3/util/retry.py:Retry.sleep < requests/adapters.py:HTTPAdapter.send < app.py:f @ sleep "
                 "clock_nanosleep") == "data_loading"


LOOP = ("selectors.py:EpollSelector.select < asyncio/base_events.py:BaseEventLoop._run_once < "
        "asyncio/base_events.py:BaseEventLoop.run_forever < uvicorn/server.py:Server.run < app.py:main")


def test_a_loop_that_polls_is_idle_and_one_that_works_is_serving() -> None:
    assert stage(LOOP + " @ net epoll_wait epoll main") == "idle"
    assert stage(LOOP + " @ gil futex main") == "serving"
    assert stage(LOOP + " @ runnable epoll_wait main") == "serving"
    assert stage(LOOP) == "serving"
    assert stage("kernel!ep_poll < kernel!do_epoll_wait < libc.so.6!epoll_wait < " + LOOP) == "serving"
    assert stage("kernel!ep_poll < libc.so.6!epoll_wait < " + LOOP + " @ net epoll_wait epoll") == "idle"


def test_a_users_own_selector_or_queue_is_still_the_loops_and_the_pools() -> None:
    loop = "selectors.py:EpollSelector.select < mine.py:Selector.select < asyncio/base_events.py:BaseEventLoop._run_once"
    tray = "mine.py:Tray.get < concurrent/futures/thread.py:_worker < threading.py:Thread.run"
    assert [stage(loop + w) for w in ("", " @ gil futex", " @ net epoll_wait epoll")] == ["serving", "serving", "idle"]
    assert [stage(tray + w) for w in ("", " @ gil futex", " @ lock futex")] == ["serving", "serving", "idle"]
    bell = "threading.py:Condition.wait < mine.py:Bell.wait < multiprocessing/queues.py:Queue._feed < threading.py:Thread.run"
    assert [stage(bell + w) for w in ("", " @ runnable", " @ lock futex")] == ["serving", "serving", "handoff"]


def test_a_coroutine_that_blocks_its_loop_is_not_idle() -> None:
    assert stage(f"app.py:poll_it < app.py:handle < {UVICORN} @ net epoll_wait epoll main") == NO_RULE
    assert stage(f"selectors.py:EpollSelector.select < app.py:handle < {UVICORN} @ net epoll_wait epoll main") == NO_RULE
    assert stage(f"threading.py:Condition.wait < threading.py:Event.wait < app.py:handle < {UVICORN} @ lock futex main") == "handoff"
    assert stage("app.py:handle < asyncio/events.py:Handle._run < uvloop/__init__.py:run @ net epoll_wait main") == NO_RULE


def test_a_connection_is_idle_until_a_request_begins() -> None:
    read = "socket.py:SocketIO.readinto < "
    inbound = " @ net recvfrom inet inbound"
    assert stage(read + HTTP + inbound) == "idle"
    assert stage(read + HTTP + " @ net poll") == "idle"
    assert stage(read + "http/client.py:_read_headers < http/client.py:parse_headers < "
                 "http/server.py:BaseHTTPRequestHandler.parse_request < " + HTTP + inbound) == "serving"
    assert stage(read + "app.py:Handler.do_POST < " + HTTP + inbound) == "serving"
    assert stage("socket.py:SocketIO.write < " + HTTP + " @ net sendto inet inbound") == "serving"
    assert stage("socketserver.py:_SocketWriter.write < app.py:Handler.do_GET < " + HTTP + " @ net sendto inet inbound") == "serving"


def test_servers_wait_for_connections() -> None:
    poll = "selectors.py:_PollLikeSelector.select < "
    assert stage(poll + "socketserver.py:BaseServer.serve_forever < app.py:main @ net poll main") == "idle"
    assert stage(poll + "app.py:wait_for_it < app.py:main @ net poll main") == NO_RULE
    assert stage("socket.py:socket.accept < app.py:loop @ net accept4 listen") == "idle"
    assert stage("gunicorn/arbiter.py:Arbiter.sleep < gunicorn/arbiter.py:Arbiter.run @ net select main") == "idle"


def test_waiting_for_another_thread_is_a_handoff() -> None:
    wait = "threading.py:Condition.wait < "
    lock = " @ lock futex"
    assert stage(f"{wait}concurrent/futures/_base.py:Future.result < app.py:handle < {HTTP}{lock}") == "handoff"
    assert stage(f"{wait}queue.py:Queue.get < app.py:work < threading.py:Thread.run{lock}") == "handoff"
    assert stage(f"{wait}threading.py:Event.wait < app.py:work < threading.py:Thread.run{lock}") == "handoff"
    assert stage(f"threading.py:Thread.join < app.py:work < threading.py:Thread.run{lock}") == "handoff"


def test_the_main_thread_that_only_waits_is_idle() -> None:
    assert stage("threading.py:Thread.join < app.py:main < app.py:<module> @ lock futex main") == "idle"
    assert stage("threading.py:Condition.wait < threading.py:Event.wait < app.py:main @ lock futex main") == "idle"
    assert stage("app.py:main < app.py:<module> @ other rt_sigtimedwait main") == "idle"
    assert stage("threading.py:Thread.join < app.py:f < app.py:Module.forward < torch/nn/modules/module.py:Module._call_impl "
                 "< app.py:main @ lock futex main") == "handoff"


def test_pool_workers_without_work_are_idle_and_their_work_is_not() -> None:
    worker = "concurrent/futures/thread.py:_worker < threading.py:Thread.run"
    assert stage(f"{worker} @ lock futex") == "idle"
    assert stage(f"{worker} @ gil futex") == "serving"
    assert stage(f"app.py:work < concurrent/futures/thread.py:_WorkItem.run < {worker} @ lock futex") == NO_RULE
    assert stage(f"concurrent/futures/thread.py:_WorkItem.run < {worker} @ lock futex") == NO_RULE


def test_who_waits_for_a_loaders_batch_is_loading() -> None:
    get = "multiprocessing/connection.py:Connection._recv < multiprocessing/queues.py:Queue.get < "
    consumer = "torch/utils/data/dataloader.py:_MultiProcessingDataLoaderIter._try_get_data < app.py:main"
    worker = "torch/utils/data/_utils/worker.py:_worker_loop < multiprocessing/process.py:BaseProcess.run"
    assert stage(get + consumer + " @ net read pipe") == "data_loading"
    assert stage(get + consumer) == "data_loading"
    assert stage(get + worker + " @ net read pipe") == "idle"
    assert stage(get + "app.py:consume @ net read pipe") == "handoff"


def test_a_forked_child_does_not_inherit_its_parents_stack() -> None:
    parent = ("multiprocessing/process.py:BaseProcess.run < multiprocessing/process.py:BaseProcess._bootstrap < "
              "multiprocessing/popen_fork.py:Popen._launch < logging/__init__.py:Logger.info < app.py:main")
    assert stage(f"app.py:work < {parent}") == NO_RULE


def test_garbage_collection_is_runtime_wherever_it_strikes() -> None:
    assert stage("libpython3.12.so.1.0!gc_collect_main < PIL/Image.py:Image.resize < app.py:handle") == "runtime"
    assert stage("python3.11!_PyEval_EvalFrameDefault < PIL/Image.py:Image.resize < app.py:handle") == "preprocess"


def test_a_read_has_no_frame_in_python() -> None:
    kernel = "kernel!copy_page_to_iter < kernel!filemap_read < kernel!vfs_read < kernel!ksys_read < libc.so.6!read < "
    assert stage(kernel + f"app.py:take < {HTTP}") == "data_loading"
    assert stage("libc.so.6!__GI___libc_read < app.py:take") == "data_loading"
    assert stage("kernel! < kernel! < libc.so.6!pread64 < app.py:take") == "data_loading"
    assert stage(kernel + FORMATTER) == "logging"
    assert stage("kernel!tcp_recvmsg < kernel!sock_read_iter < kernel!vfs_read < libc.so.6!read < app.py:take") == "serving"
    assert stage("app.py:take @ io read file fd=12") == "data_loading"
    assert stage("app.py:note @ io fsync file fd=12") == NO_RULE


def test_descriptors_speak_when_no_frame_does() -> None:
    assert stage("app.py:say @ net write pipe fd=1") == "logging"
    assert stage("app.py:say @ net write pipe fd=7") == NO_RULE
    assert stage("app.py:fetch @ net recvfrom inet outbound") == "data_loading"
    assert stage("app.py:fetch @ net recvfrom inet") == NO_RULE
    assert stage("app.py:answer @ net sendto inet inbound") == "serving"
    assert stage("app.py:f @ gpu ioctl nvidia") == "compute.gpu"
    assert stage("app.py:f @ lock futex") == NO_RULE


def test_an_export_is_logging_although_it_fetches() -> None:
    send = "http/client.py:HTTPConnection.send < urllib3/connectionpool.py:HTTPConnectionPool.urlopen < requests/api.py:post < "
    assert stage(send + "app.py:fetch") == "data_loading"
    assert stage(send + "opentelemetry/exporter/otlp/proto/http/trace_exporter/__init__.py:OTLPSpanExporter.export") == "logging"


def test_a_decorator_does_not_speak_for_what_it_wraps() -> None:
    wrapper = "opentelemetry/util/_decorator.py:_AgnosticContextManager.__call__.<locals>.inner"
    assert stage(f"app.py:mix < {wrapper} < {UVICORN}") == NO_RULE
    assert stage(f"PIL/Image.py:Image.resize < app.py:f < {wrapper} < {UVICORN}") == "preprocess"


def test_waiting_for_the_device_is_told_from_launching() -> None:
    assert stage("libcuda.so.1!cuLaunchKernel < app.py:f") == "compute.launch"
    assert stage("libcuda.so.1!cuStreamSynchronize < app.py:f") == "compute.gpu"
    assert stage("libcuda.so.1! < torch/cuda/__init__.py:synchronize < app.py:f") == "compute.gpu"
    assert stage("libcuda.so.1!cuStreamSynchronize < " + FORMATTER) == "compute.gpu"


def test_what_a_function_is_called_counts_only_where_nothing_else_does() -> None:
    assert stage(f"app.py:preprocess < app.py:handle < {UVICORN}") == "preprocess"
    assert stage("PIL/Image.py:Image.resize < app.py:postprocess < app.py:main") == "preprocess"
    assert stage("app.py:mix < app.py:tokenize < app.py:load_model") == "preprocess"
    assert stage(f"app.py:mix < {UVICORN.replace('main', 'load_model')}") == NO_RULE


LIBRARY_WORK = [
    "libjpeg.so.62!jsimd_idct_islow_avx2 < PIL/ImageFile.py:ImageFile.load < {f} < {g}",
    "onnxruntime/capi/onnxruntime_inference_collection.py:InferenceSession.run < {f} < {g}",
    "logging/__init__.py:Logger.info < {f} < {g}",
    "json/__init__.py:dumps < {f} < {g}",
    "pathlib.py:Path.read_bytes < {f} < {g}",
    "tokenizers.abi3.so!tokenizers::models::bpe::BPE::tokenize < {f} < {g}",
]


@pytest.mark.parametrize("stack", LIBRARY_WORK)
@pytest.mark.parametrize("names", [("f1", "f2"), ("postprocess", "load_model"), ("log_request", "tokenize")])
def test_renaming_the_users_functions_moves_nothing(stack: str, names: tuple[str, str]) -> None:
    def at(file: str, f: str, g: str) -> str:
        return stage(stack.format(f=f"{file}:{f}", g=f"{file}:{g}") + f" < {HTTP}")

    assert at("/tmp/_renamed_1.py", *names) == at("app.py", "shape", "whole") != NO_RULE


@pytest.mark.parametrize("home", [
    "/usr/lib/python3.11", "/root/.pyenv/versions/3.12.4/lib/python3.12", "/opt/conda/lib/python3.13t", "/usr/lib/python311.zip",
])
def test_the_standard_library_is_known_wherever_it_lies(home: str) -> None:
    assert stage(f"{home}/logging/__init__.py:Logger.info < app.py:f") == "logging"
    assert stage(f"{home}/site-packages/PIL/Image.py:Image.resize < app.py:f") == "preprocess"
    assert stage(f"/srv/logging/__init__.py:Logger.info < {home}/threading.py:Thread.run") == NO_RULE


def test_before_python_3_11_only_the_last_part_of_a_name_is_known() -> None:
    assert stage("torch/utils/data/_utils/worker.py:_worker_loop @ lock futex") == "idle"
    assert stage("selectors.py:select < socketserver.py:serve_forever < app.py:main @ net poll main") == "idle"
    assert stage("socket.py:readinto < http/server.py:handle_one_request @ net recvfrom inet inbound") == "idle"
    assert stage("transformers/tokenization_utils_base.py:batch_decode < app.py:f") == "postprocess"


def test_a_lambda_belongs_to_the_function_around_it() -> None:
    assert stage("http/server.py:<lambda> < http/server.py:BaseHTTPRequestHandler.parse_request") == "serving"
    assert stage("starlette/responses.py:JSONResponse.render.<locals>.<genexpr> < app.py:f") == "postprocess"
    assert stage(f"app.py:f.<locals>.<lambda> < {HTTP}") == NO_RULE


CARRIER = ThreadContext(name="python", carrier=True, main=True, python=True)


def test_a_carrier_without_a_stack_says_so() -> None:
    kernel = [Frame("kernel", "", "vfs_read")]
    assert RULES.attribute([], None, CARRIER).reason == "no_stack"
    assert RULES.attribute(kernel, None, CARRIER).reason == "no_stack"
    assert RULES.attribute([], Wait("io", 0, "read", "file", 9), CARRIER).reason == "no_stack"
    helper = ThreadContext(name="pool", carrier=False, main=False, python=True)
    assert RULES.attribute(kernel, None, helper).stage == "data_loading"
    assert RULES.attribute([], None, helper).reason == "no_stack"
    assert RULES.attribute([Frame("native", "/lib/libc.so.6", "malloc")], None, CARRIER).reason == "no_rule"


def test_helpers_have_a_stage_by_their_library() -> None:
    assert stage("/x/site-packages/onnxruntime/capi/libonnxruntime.so.1.17!MlasGemm @ helper") == "compute.cpu"
    assert stage("/usr/lib/x86_64-linux-gnu/libgomp.so.1!gomp_barrier_wait @ helper") == "compute.cpu"
    assert stage("/x/torch/lib/libtorch_cuda.so!at::native::add @ helper") == "compute.launch"


def test_the_rule_that_decided_is_named() -> None:
    assert verdict("PIL/Image.py:Image.resize < app.py:f").rule == "pil.image"
    assert verdict("app.py:f").rule == ""
