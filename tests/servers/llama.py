"""A real engine that needs no weights: llama.cpp's server over a tiny model made of noise.

It answers nonsense through everything that is real: a tokenizer, a chat template, a grammar, HTTP.
The engine lives in its own virtual environment (`make llama`), and is reached by the path of its
Python; the project's environment never imports it. Run by that Python as `llama.py PATH`, this file
writes the model.

One request at a time: the server holds a lock while it generates, and others wait their turn.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODEL_NAME = "penstock-tiny"

#: Tokens a prompt and its answer may have together. A prompt is about a token a letter.
CONTEXT_TOKENS = 8192

#: Seconds until a server that is still not ready is given up. It takes about 1 on two idle cores.
START_LIMIT_S = 60.0

#: Variables the engine needs. It would take others as settings (PORT, HOST, MODEL, SEED...).
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")

WORDS = """
    an and again all at away back bark because big bird boy bright but by cat cloud cold day
    dog door down dream each ear every eye fall far fast fields fly flying found friend from
    garden gate girl gold good great green had hand happy he heard her high hill him his
    home house in into it jump kind king knew lake last laughed leap leaf light like little
    long looked loved made moon morning mother mountain my near never new next night no not
    now of off old on once one only open out over paw rain ran red river road sang saw sea
    she ship silver sky sleep small snow soft some song star stone story sun tail tale tall
    the their then there they thing Tim time to told too tree two under up wagged walk wall
    warm was water way we went were what when where while white who wind window wing with
    wonder wood word world would year yellow yes you young
"""

#: `python -m llama_cpp.server`, ended by the end of the process that holds its standard input.
SERVE = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


class EngineMissing(Exception):
    """The llama engine is not installed: run `make llama` (minutes, once; it needs a compiler)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else str(self.__doc__)


@dataclass(frozen=True)
class LlamaServer:
    """A running server: where it listens, what its model is called, and what it printed so far."""

    base_url: str
    model: str
    pid: int
    output_path: Path


def engine_python() -> Path:
    """The Python that has the engine. Raises `EngineMissing` unless it was installed to the end."""
    pins = (HERE / "llama-requirements.txt").read_text()
    version = re.search(r"^llama_cpp_python==(\S+)", pins, re.MULTILINE)
    assert version, "llama-requirements.txt does not pin llama_cpp_python"
    cache = os.environ.get("PENSTOCK_TEST_CACHE") or Path.home() / ".cache" / "penstock"
    home = Path(cache) / f"llama-{version[1]}"
    if not (home / "installed").exists():
        raise EngineMissing
    return home / "bin" / "python"


def write_tiny_model(path: Path) -> None:
    """`path` holds the model: the same bytes every time, 0.6 MB. Raises `EngineMissing`."""
    subprocess.run([engine_python(), __file__, path], check=True, timeout=60, env=_environment())


@contextlib.contextmanager
def llama_server() -> Iterator[LlamaServer]:
    """A server that answers under `base_url` inside the block, and is dead after it.

    It dies with this process too, however that ends. Raises `EngineMissing` when there is no
    engine, and `RuntimeError` with the last that it printed when it ended or was not ready in time.
    """
    python = engine_python()
    with tempfile.TemporaryDirectory(prefix="penstock-llama-") as folder:
        model_path, output_path = Path(folder, "tiny.gguf"), Path(folder, "output.txt")
        write_tiny_model(model_path)
        command: list[str | Path] = [python, "-c", SERVE]
        # Port 0: the kernel picks a free one, and no other test can take it first.
        command += ["--host", "127.0.0.1", "--port", "0"]
        command += ["--model", model_path, "--model_alias", MODEL_NAME]
        command += ["--n_ctx", str(CONTEXT_TOKENS), "--seed", "1", "--verbose", "False"]
        command += ["--logits_all", "False", "--interrupt_requests", "False"]
        command += ["--n_threads", "1", "--n_threads_batch", "1"]
        with output_path.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(),
            )
        try:
            base_url = _wait_until_ready(process, output_path)
            yield LlamaServer(base_url, MODEL_NAME, process.pid, output_path)
        finally:
            process.kill()
            process.communicate()


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}


def _wait_until_ready(process: subprocess.Popen[bytes], output_path: Path) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        printed = output_path.read_text(errors="replace")
        if listening := re.search(r"running on http://127\.0\.0\.1:(\d+)", printed):
            http = HTTPConnection("127.0.0.1", int(listening[1]), timeout=5)
            with contextlib.suppress(OSError), contextlib.closing(http):
                http.request("GET", "/v1/models")
                if json.load(http.getresponse())["data"][0]["id"] == MODEL_NAME:
                    return f"http://127.0.0.1:{listening[1]}/v1"
        time.sleep(0.02)
    ended = "was not ready in time" if process.poll() is None else f"ended with {process.poll()}"
    printed = output_path.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"the llama server {ended}:\n{printed}")


def _write_model(path: Path) -> None:
    """Two layers of noise, and three dimensions that no layer writes to, so that every answer ends.

    Words stand in a random order, at places -1 to 1, and what ends an answer stands behind the last
    of them. The three dimensions give a token v after u the logit

        bias(v) - k * (place(v) - place(u) - step)^2

    so text walks through the words and comes to its end, at any temperature, also where a grammar
    forbids the end of text and waits for a quote. (Plain noise, sampled greedily inside a grammar,
    repeats itself until the context is full.)
    """
    # By name, because type checkers of the project's environment do not find them.
    gguf, np = importlib.import_module("gguf"), importlib.import_module("numpy")
    random = np.random.default_rng(20240229)
    normal, unknown, control, byte = 1, 2, 3, 6
    width, heads, kv_heads, head_width, hidden, layers = 64, 2, 1, 16, 128, 2
    step, k, start, end = 0.2, 30.0, -1.0, 1.2

    # (token, type, bias, place); one without a place comes anywhere, and text starts over after it.
    vocabulary: list[tuple[str, int, float, float | None]] = []
    vocabulary += [("<unk>", unknown, -20.0, None), ("<s>", control, -20.0, None)]
    vocabulary += [("</s>", control, 6.0, end)]
    vocabulary += [(f"<0x{value:02X}>", byte, -20.0, None) for value in range(256)]
    bias = {"}": -1.0, "]": -1.0, ",": -4.0, ".": -4.0, "\\": -20.0}
    for sign in ["\u2581", *map(chr, range(0x21, 0x7F))]:
        place = end if sign == '"' else None
        usual = 2.0 if sign == '"' else -5.0 if sign.isdigit() else -6.0
        vocabulary += [(sign, normal, bias.get(sign, usual), place)]
    words = WORDS.split()
    places = random.permutation(np.linspace(-1.0, 1.0, len(words)))
    vocabulary += [
        (f"\u2581{word}", normal, 0.0, place) for word, place in zip(words, places, strict=True)
    ]
    size = len(vocabulary)

    def noise(rows: int, columns: int, scale: float) -> Any:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    def unwritten(matrix: Any) -> Any:
        matrix[:3, :] = 0.0
        return matrix

    tokens, output = noise(size, width, 1.0), noise(size, width, 0.12)
    for index, (token, _, weight, place) in enumerate(vocabulary):
        # After a quote text starts over, so no string is empty; after a bracket a quote is due.
        before = end if token == "[" else start if token == '"' or place is None else place
        tokens[index, :3] = 4.0, before + step, (before + step) ** 2
        output[index, :3] = weight / 4.0, 0.0, 0.0
        if place is not None:
            output[index, :3] = (weight - k * place**2) / 4.0, 2.0 * k * place, -k

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(MODEL_NAME)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_width)
    writer.add_value_length(head_width)
    writer.add_rope_dimension_count(head_width)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(size)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _, _, _ in vocabulary])
    writer.add_token_scores([-float(index) for index in range(size)])
    writer.add_token_types([kind for _, kind, _, _ in vocabulary])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)  # the chat template has it
    writer.add_chat_template(CHAT_TEMPLATE)
    ones = np.ones(width, dtype=np.float32)
    q_width, kv_width = head_width * heads, head_width * kv_heads
    writer.add_tensor("token_embd.weight", tokens)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        writer.add_tensor(f"{block}.attn_q.weight", noise(q_width, width, 0.2))
        writer.add_tensor(f"{block}.attn_k.weight", noise(kv_width, width, 0.2))
        writer.add_tensor(f"{block}.attn_v.weight", noise(kv_width, width, 0.2))
        writer.add_tensor(f"{block}.attn_output.weight", unwritten(noise(width, q_width, 0.1)))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_gate.weight", noise(hidden, width, 0.1))
        writer.add_tensor(f"{block}.ffn_up.weight", noise(hidden, width, 0.1))
        writer.add_tensor(f"{block}.ffn_down.weight", unwritten(noise(width, hidden, 0.1)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    _write_model(Path(sys.argv[1]))
