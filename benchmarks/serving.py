"""Requests a second of the server, with and without batches of several requests.

    make bench
    python benchmarks/serving.py [--size base] [--clients 1 8 32] [--requests 96] [--json FILE]

A server on this machine, asked over HTTP by several clients at the same time (`--clients`); each request is
one meme of a picture and a text. `one by one`: a batch takes one request. `batched`: a batch takes all that
wait, up to 32 rows. Both are asked the same, in turns, and must answer the same bit for bit. On CPU a pass of
the model is one row in any case (`modeling_mmorient/row_passes.py`); on an accelerator it is eight.
"""

import argparse
import base64
import io
import json
import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image
from transformers import BertTokenizer, CLIPImageProcessor, CLIPTokenizer

from mmorient.serving.batching import BATCH_ROWS, Batcher
from mmorient.serving.server import create_app
from modeling_mmorient import (
    MMOrientConfig,
    MMOrientForMultitaskClassification,
    MMOrientPipeline,
    MMOrientProcessor,
)

WORDS = ["when", "the", "build", "is", "green", "cat", "votes", "again", "monday", "hooray"]
# CLIP ViT-B/32 and BERT-base with random weights, or a layer of each.
LAYERS = {"base": 12, "tiny": 1}


def build(size: str, device: str) -> MMOrientPipeline:
    """A model with random weights, and its processor."""
    layers = {"num_hidden_layers": LAYERS[size]}
    joint = {"model_type": "clip", "text_config": layers, "vision_config": layers}
    torch.manual_seed(0)
    config = MMOrientConfig(joint_config=joint, text_config={"model_type": "bert", **layers})
    model = MMOrientForMultitaskClassification(config).eval()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    joint_vocabulary = {word: index for index, word in enumerate(letters)}
    # CLIP's text tower takes its output at the token with this id.
    joint_vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    processor = MMOrientProcessor(
        image_processor=CLIPImageProcessor(),
        joint_tokenizer=CLIPTokenizer(vocab=joint_vocabulary, merges=[], model_max_length=77),
        tokenizer=BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}),
    )
    return MMOrientPipeline(model, processor=processor, device=device)


def draw_requests(number: int) -> list[bytes]:
    """Bodies of requests, no two alike."""
    rng, generator = random.Random(0), np.random.default_rng(0)
    bodies = []
    for _ in range(number):
        file = io.BytesIO()
        pixels = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(file, "JPEG")
        image = base64.b64encode(file.getvalue()).decode()
        text = " ".join(rng.choices(WORDS, k=rng.randint(4, 20)))
        bodies.append(json.dumps({"inputs": {"image": image, "text": text}}).encode())
    return bodies


@contextmanager
def serving(pipeline: MMOrientPipeline, batch_rows: int) -> Iterator[str]:
    """The address of a server whose batches take up to `batch_rows` rows."""
    app = create_app(pipeline, batcher=Batcher(pipeline, batch_rows))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/predict"
    server.should_exit = True
    thread.join()


def ask(address: str, bodies: list[bytes], clients: int) -> tuple[list[Any], float, float]:
    """Answers to all bodies, requests a second, and the median seconds of one."""

    def one(body: bytes) -> tuple[Any, float]:
        start = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=600) as response:
            answer = json.load(response)
        return answer, time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(one, bodies))
    rate = len(bodies) / (time.perf_counter() - start)
    return [answer for answer, _ in found], rate, statistics.median(seconds for _, seconds in found)


def measure(pipeline: MMOrientPipeline, bodies: list[bytes], clients: int) -> dict[str, Any]:
    """One line of the table."""
    line: dict[str, Any] = {"clients": clients, "device": str(pipeline.device)}
    rates: dict[str, list[float]] = {"one by one": [], "batched": []}
    seconds: dict[str, list[float]] = {"one by one": [], "batched": []}
    answers: list[Any] = []
    with serving(pipeline, 1) as alone, serving(pipeline, BATCH_ROWS) as together:
        for address in (alone, together):
            ask(address, bodies[:clients], clients)  # to warm up
        for way, address in (("one by one", alone), ("batched", together)) * 2:
            found, rate, median = ask(address, bodies, clients)
            answers.append(found)
            rates[way].append(rate)
            seconds[way].append(median)
    assert all(found == answers[0] for found in answers), "answers depend on the batch"
    for way in rates:
        line[way] = {"requests_per_second": max(rates[way]), "median_seconds": min(seconds[way])}
    line["ratio"] = max(rates["batched"]) / max(rates["one by one"])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=LAYERS, default="base")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pipeline, bodies = build(arguments.size, arguments.device), draw_requests(arguments.requests)
    lines = []
    print("clients   one by one /s      batched /s   ratio   median s, one by one and batched")
    for clients in arguments.clients:
        line = measure(pipeline, bodies, clients)
        lines.append(line)
        alone, together = line["one by one"], line["batched"]
        print(
            f"{clients:7d}{alone['requests_per_second']:16.1f}{together['requests_per_second']:16.1f}"
            f"{line['ratio']:8.2f}{alone['median_seconds']:11.3f}{together['median_seconds']:9.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
