"""Measures how many requests a second writing makes, against a local stub that takes 50 ms for each reply.

    python scripts/benchmark_writing.py                      # 2,000 captions, 32 requests at a time
    python scripts/benchmark_writing.py --captions 500 --concurrency 8 --latency 0.2

The most that is possible is concurrency / latency. The stub (uvicorn, extra `judge-test`) runs in a process of its own
and replies with four pairs, as the prompt asks. All else is what a real run does: prompts, schema, cache, candidates
and ledger on the disk. Prints requests a second, their share of what is possible, processor time a request, and the
memory of this process after a tenth of the captions and at the end.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radvqa_jax.chat_client import ChatClient
from radvqa_jax.config import ChatConfig, SynthesisConfig, WritingConfig
from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.writing import chat_config, write

STUB = """
import asyncio, json, re, sys
import uvicorn

async def reply(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(float(sys.argv[1]))
    messages = json.loads(body)["messages"]
    mark = re.search(r"<<(\\w+)>>", messages[1]["content"])[1]
    pair = {"answer": "CT", "kind": "open", "options": [], "about": "modality", "support": "CT of the chest"}
    pairs = [pair | {"question": f"Which modality is image {number}?"} for number in range(4)]
    content = json.dumps({"mark": mark, "pairs": pairs})
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 500, "completion_tokens": 150}
    said = json.dumps({"id": "stub", "model": "stub", "choices": [choice], "usage": usage}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

Server(uvicorn.Config(reply, host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="off")).run()
"""


class Captions:
    """Made-up captions, one an image, made when they are needed."""

    datasets = ("stub",)

    def __init__(self, n: int, note: Any) -> None:
        self._n, self._note = n, note

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Image]:
        for number in range(self._n):
            self._note(number)
            words = f"Axial CT of the chest with a nodule in the upper lobe, image {number}. " * 4
            row = {"caption": words, "modality": "CT", "plane": "axial", "organ": "chest"}
            yield Image("stub", "", "train", "train", f"case{number}", f"image{number}", row)

    def values(self, dataset: str, name: str) -> list[str]:
        return []


def memory_mb() -> float:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(url: str, folder: Path, *, captions: int, concurrency: int, latency: float) -> dict[str, float]:
    """Returns the figures of one run."""
    held: dict[str, float] = {}

    def note(number: int) -> None:
        if number == captions // 10:
            held["first"] = memory_mb()

    config = SynthesisConfig(
        chat=ChatConfig(base_url=url, model="stub", concurrency=concurrency),
        writing=WritingConfig(writers=(("case", 1.0),)),
    )
    client = ChatClient(chat_config(config), cache=folder / "chat_cache.jsonl", group="synthesis.chat")
    begin, processor = time.monotonic(), time.process_time()
    images: Any = Captions(captions, note)
    done = write(images, client, config, folder, seed=0, left=captions)
    seconds, processor = time.monotonic() - begin, time.process_time() - processor
    client.close()
    assert done.new == 4 * captions, f"{done.new} pairs of {4 * captions}: {dict(done.outcomes)}"
    rate = done.calls / seconds
    return {
        "requests_per_second": rate,
        "share_of_possible": rate * latency / concurrency,
        "processor_ms_per_request": 1000 * processor / done.calls,
        "memory_mb_at_a_tenth": held["first"],
        "memory_mb_at_the_end": memory_mb(),
    }


def main() -> None:
    """Starts the stub, measures once and prints one JSON object."""
    parser = argparse.ArgumentParser(description="Measures how many requests a second writing makes.")
    parser.add_argument("--captions", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that the stub takes for a reply")
    given = parser.parse_args()
    command = [sys.executable, "-c", STUB, str(given.latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub, tempfile.TemporaryDirectory() as folder:
        assert stub.stdout is not None
        try:
            if not (port := stub.stdout.readline().strip()):
                sys.exit("the stub did not start: it needs uvicorn (pip install -e '.[judge-test]')")
            found = measure(
                f"http://127.0.0.1:{port}/v1",
                Path(folder),
                captions=given.captions,
                concurrency=given.concurrency,
                latency=given.latency,
            )
        finally:
            stub.terminate()
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
