"""Times writing questions and checking them on this machine.

    python scripts/benchmark_synthesis.py writing    # 2,000 captions, 32 requests at a time, 50 ms for each reply
    python scripts/benchmark_synthesis.py checks     # 100,000 pairs

`writing` asks a local stub, which replies with four pairs after a given time. The highest possible rate is concurrency
/ latency. Everything else is that of a real run: prompts, schema, cache, candidates and ledger on the disk. It prints
requests per second, their share of the highest rate, processor time per request of this process and of the stub, and
the memory of this process after a tenth of the captions and at the end. The stub is a uvicorn server (extra
`judge-test`) in a separate process; --python names an interpreter that has it.

`checks` runs every check that asks no model (rules, support by words, duplicates, contamination, blind lookup, balance)
over pairs about planned phantoms and prints processor time per pair. The target is 2 ms at 100,000 pairs, with the
MinHash index. Every second question gets a sentence of its own, as a language model would write it, so that caches of
equal texts do not improve the figure.
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

import psutil

from radvqa_jax.chat_client import ChatClient
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import ChatConfig, ChecksConfig, SynthesisConfig, WritingConfig
from radvqa_jax.synthesis import suite
from radvqa_jax.synthesis.checks import Item, run_checks
from radvqa_jax.synthesis.duplicates import Known
from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.planted import make_candidate, phantom_evidence
from radvqa_jax.synthesis.planted_pairs import right_pairs
from radvqa_jax.synthesis.writers import chat_config
from radvqa_jax.synthesis.writing import write
from tfds_builders.phantom_rad.plan import plan_split

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
    """Made-up captions, one per image, made when they are needed."""

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


def processor_seconds(process: psutil.Process) -> float:
    """The processor time that a process has used."""
    used = process.cpu_times()
    return used.user + used.system


def memory_mb() -> float:
    """The memory that this process holds now."""
    return psutil.Process().memory_info().rss / 2**20


def measure_writing(
    url: str, stub: psutil.Process, folder: Path, *, captions: int, concurrency: int, latency: float
) -> dict[str, float]:
    """The figures of one run; `stub` is the process that answers at `url`."""
    held: dict[str, float] = {}

    def note(number: int) -> None:
        if number == captions // 10:
            held["first"] = memory_mb()

    config = SynthesisConfig(
        chat=ChatConfig(base_url=url, model="stub", concurrency=concurrency),
        writing=WritingConfig(writers=(("case", 1.0),)),
    )
    client = ChatClient(chat_config(config), cache=folder / "chat_cache.jsonl", group="synthesis.chat")
    begin, processor, theirs = time.monotonic(), time.process_time(), processor_seconds(stub)
    images: Any = Captions(captions, note)
    done = write(images, client, config, folder, seed=0, left=captions)
    seconds, processor = time.monotonic() - begin, time.process_time() - processor
    theirs = processor_seconds(stub) - theirs
    client.close()
    assert done.new == 4 * captions, f"{done.new} pairs of {4 * captions}: {dict(done.outcomes)}"
    rate = done.calls / seconds
    return {
        "requests_per_second": rate,
        "share_of_possible": rate * latency / concurrency,
        "processor_ms_per_request": 1000 * processor / done.calls,
        "stub_processor_ms_per_request": 1000 * theirs / done.calls,
        "memory_mb_at_a_tenth": held["first"],
        "memory_mb_at_the_end": memory_mb(),
    }


def time_writing(given: argparse.Namespace) -> None:
    """Starts the stub, measures once and prints one JSON object."""
    command = [given.python, "-c", STUB, str(given.latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub, tempfile.TemporaryDirectory() as folder:
        assert stub.stdout is not None
        try:
            if not (port := stub.stdout.readline().strip()):
                sys.exit("the stub did not start: it needs uvicorn (pip install -e '.[judge-test]', or --python)")
            found = measure_writing(
                f"http://127.0.0.1:{port}/v1",
                psutil.Process(stub.pid),
                Path(folder),
                captions=given.captions,
                concurrency=given.concurrency,
                latency=given.latency,
            )
        finally:
            stub.terminate()
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


WORDS = "apical basal central peripheral diffuse focal patchy subtle prominent rounded irregular smooth".split()
EVALUATED = 10_000  # questions of evaluated sets that pairs are compared with


def make_items(pairs: int) -> list[Item]:
    """This many pairs; every second question has an added sentence that no other question has."""
    items: list[Item] = []
    number = 0
    for image in plan_split("train", pairs // 8 + 100):
        evidence = phantom_evidence(image)
        for question, answer in right_pairs(image)[:16]:
            if len(items) == pairs:
                return items
            if number % 2:
                word, other = WORDS[number % len(WORDS)], WORDS[(number // len(WORDS)) % len(WORDS)]
                question = f"{question} Consider the {word} and {other} part of area {number} as well."
            items.append(Item(make_candidate(image, (question, answer)), evidence))
            number += 1
    return items


def time_checks(pairs: int) -> None:
    """Prints the processor time per pair of each check."""
    items = make_items(pairs)
    known = [
        Known(
            "evaluated",
            str(n),
            f"Which {WORDS[n % 12]} abnormality of region {n} is seen next to the {WORDS[n % 7]} border?",
            "none",
        )
        for n in range(EVALUATED)
    ]
    total = 0.0
    for check in suite.all_checks(ChecksConfig(), known=known):
        start = time.process_time()
        found = run_checks(items, [check])
        seconds = time.process_time() - start
        total += seconds
        failed = sum(not pair.accepted for pair in found)
        print(f"{check.name:16} {1e3 * seconds / len(items):8.4f} ms a pair   {failed} rejected", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'all':16} {1e3 * total / len(items):8.4f} ms a pair, {len(items)} pairs, peak memory {peak:.0f} MiB")


def main() -> None:
    """Runs one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("writing", help="rate of requests while writing, with a local stub")
    writing.add_argument("--captions", type=int, default=2000)
    writing.add_argument("--concurrency", type=int, default=32)
    writing.add_argument("--latency", type=float, default=0.05, help="seconds before the stub replies")
    writing.add_argument("--python", default=sys.executable, help="interpreter that runs the stub")
    checks = commands.add_parser("checks", help="checks that ask no model")
    checks.add_argument("--pairs", type=int, default=100_000)
    given = parser.parse_args()
    if given.command == "writing":
        time_writing(given)
    else:
        time_checks(given.pairs)


if __name__ == "__main__":
    run_script(main)
