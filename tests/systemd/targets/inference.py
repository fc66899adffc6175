"""Maps a library that is named like a model runtime, and works: what the agent's discovery is to find."""

import ctypes
import json
import shutil
import tempfile


def preprocess_image():
    return json.loads(json.dumps(list(range(3000))))


library = tempfile.mkdtemp() + "/libonnxruntime.so.1.22.0"
shutil.copyfile("/lib/x86_64-linux-gnu/libz.so.1", library)
runtime = ctypes.CDLL(library)
while True:
    for _ in range(20):
        preprocess_image()
    runtime.zlibVersion()
