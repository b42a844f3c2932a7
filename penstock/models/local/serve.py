"""llama.cpp's own server over one file of weights: a child of the worker that ends with it.

Run as `python -P serve.py`, apart from Penstock. Its orders are one line of JSON on stdin; where it
listens is one on stdout. Everything that llama.cpp prints goes to stderr.
"""

import json
import os
import sys
import threading
from typing import Any


def _end_with_worker() -> None:
    """The worker holds the other end, and lets go of it in any death."""
    os.read(0, 1)
    os._exit(0)


def _serve(orders: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = orders["file"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the kernel finds one
    params.api_keys = [orders["key"]]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders["threads"]
    params.n_parallel = orders["slots"]
    params.n_ctx = orders["slots"] * orders["context_tokens"]
    params.kv_unified = False
    # It would keep the state of earlier prompts, up to 8 GB of them.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # Who has the key asks for answers, and for nothing else.
    params.ui = params.endpoint_slots = params.endpoint_props = False
    params.verbosity = 1  # errors
    return xllamacpp.Server(params)


def _main() -> None:
    orders = json.loads(sys.stdin.buffer.readline())
    report = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    try:
        server = _serve(orders)
    except RuntimeError:
        os._exit(1)  # llama.cpp has printed why
    os.write(report, json.dumps({"url": server.listening_address}).encode() + b"\n")
    os.close(report)
    threading.Event().wait()


if __name__ == "__main__":
    _main()
