"""Settings of every test: on the CPU, with the shape letters of radvqa_jax checked; and the paths that tests share."""

import importlib.metadata
import os
from pathlib import Path

# Before anything imports jax: it reads this once. RADVQA_GPU=1 leaves the choice of device to jax.
if os.environ.get("RADVQA_GPU") != "1":
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Tests compile much and compute little: with fewer optimisations and one module instead of 32 they compile faster.
    # .ci/run's demo runs without. jaxlib 0.10.2 has an older code generation for fused loops as well, which compiles a
    # step in a fifth of the time. Later releases do not have it, and end the process at a flag that they do not know.
    flags = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    if importlib.metadata.version("jaxlib") == "0.10.2":
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", flags)

import importlib.util
import json
import runpy
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jax
import jaxtyping
import pytest

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parent.parent
collect_ignore = ["export/hf_worker.py"]  # a script, run where torch and peft are
SHARED = REPO.parent / "shared"

# Marker -> (whether the test can run here, why it cannot and the way out).
NEEDS = {
    "tf": (importlib.util.find_spec("tensorflow") is not None, "TensorFlow is not installed: pip install -e '.[tf]'"),
    "torch": (importlib.util.find_spec("torch") is not None, "torch is not installed: pip install -e '.[bench]'"),
    "gpu": (os.environ.get("RADVQA_GPU") == "1", "needs a GPU: set RADVQA_GPU=1"),
    "weights": ("RADVQA_WEIGHTS" in os.environ, "needs released weights: set RADVQA_WEIGHTS to their folder"),
    "browser": (
        importlib.util.find_spec("selenium") is not None and all(map(shutil.which, ("chromium", "chromedriver"))),
        "needs selenium, chromium and chromedriver: pip install -e '.[test]'; apt install chromium chromium-driver",
    ),
    "network": (os.environ.get("RADVQA_NETWORK") == "1", "needs the network: set RADVQA_NETWORK=1"),
}

# Without the numeric tower beartype would refuse alpha=7 where a float is annotated.
jaxtyping.install_import_hook("radvqa_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# [B 1] + [B] would broadcast to [B B] in silence.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with the reason, what cannot run here; and puts files with slow tests first.

    A file stays with one worker. If a file of two minutes began last, the other worker would be idle.
    """
    for item in items:
        for name, (possible, reason) in NEEDS.items():
            if not possible and item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """After each file, drops compiled programs if they use up what the process may hold."""
    yield
    from radvqa_jax.runtime import release_programs  # imported here, after the hook above

    release_programs()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden values."""
    return REPO / "tests" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets next to the repository; skips the test if it is absent."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip(f"no data sets beside the repository ({data.relative_to(REPO.parent)} is absent)")
    return data


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of setup.py, without setuptools: an environment of Python >= 3.12 does not have it."""
    said: dict[str, Any] = {}
    fake = types.ModuleType("setuptools")
    vars(fake).update(setup=lambda **arguments: said.update(arguments), find_packages=lambda **_: [])
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(REPO / "setup.py"))
    return said


# A whole PaliGemma that trains in milliseconds, and what a job on it needs. Values are as in a config file.
MICRO_VARIANT = (
    "Variant(SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=14), GemmaConfig(width=16, depth=2, "
    "mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8, vocab_size=1664), 28)"
)
MICRO_STAGE = {"sources": 'source(dataset="phantom_rad", builder_config="tiny")', "batch_size": 4, "total_steps": 2}
MICRO_FIELDS = {
    "model": {"variant": "micro", "compute_dtype": "float32", "param_dtype": "float32", "remat": "none"},
    "data": {"seq_len": 64},
    "stages.stage1": MICRO_STAGE | {"accumulate": 2, "log_every": 1},
    "stages.stage2": MICRO_STAGE
    | {"accumulate": 1, "log_every": 1, "lora.rank": 2, "lora.dropout": 0.2}
    | {"train": ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))},
    "stages.stage1.optim": {"learning_rate": 0.01},
    "stages.stage2.optim": {"learning_rate": 0.01},
    "eval": {"bootstrap": 50},
    "eval.source": {"dataset": "phantom_rad", "builder_config": "tiny", "limit": 10},
    "eval.train_source": {"dataset": "phantom_rad", "builder_config": "tiny"},
    "decode": {"max_new_tokens": 4, "batch_size": 4},
    "saliency": {"cases": 1},
}
MICRO_FILE = '''"""The job on a random model with {tokens} tokens, and on 40 phantoms."""

from radvqa_jax.config import default_config, source, stage
from radvqa_jax.models.variants import VARIANTS, GemmaConfig, SiglipConfig, Variant

VARIANTS["micro"] = {variant}


def get_config():
    config = default_config()
    config.run_stages = ("stage1", "stage2")
    config.stages.stage1, config.stages.stage2 = stage(), stage()
{lines}
    return config
'''


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with the small phantom_rad, prepared."""
    from radvqa_jax.config import DataConfig  # imported here and below, after the hook above
    from radvqa_jax.data.preparing import prepare

    data_dir = tmp_path_factory.mktemp("phantoms")
    prepare("phantom_rad", builder_config="tiny", data=DataConfig(data_dir=str(data_dir)))
    return data_dir


@pytest.fixture(scope="session")
def micro_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native checkpoint of the micro model with random weights."""
    from radvqa_jax.backbones import fake_params
    from radvqa_jax.checkpoints import big_vision
    from radvqa_jax.models import variants

    path = tmp_path_factory.mktemp("micro") / "micro.npz"
    big_vision.save(path, fake_params(eval(MICRO_VARIANT, vars(variants))))
    return path


@pytest.fixture(scope="session")
def micro_file(tmp_path_factory: pytest.TempPathFactory, micro_checkpoint: Path, phantoms: Path, golden: Path) -> Path:
    """A config file for the job on the micro model; loading it makes the variant known."""
    files = {"model.checkpoint": micro_checkpoint, "model.tokenizer": golden / "tiny_tokenizer.model"}
    fields = {f"{group}.{name}": value for group, values in MICRO_FIELDS.items() for name, value in values.items()}
    texts = {name: f"({value},)" if name.endswith(".sources") else repr(value) for name, value in fields.items()}
    texts |= {"mode": "'job'", "data.data_dir": repr(str(phantoms))}
    texts |= {name: repr(str(path)) for name, path in files.items()}
    lines = "\n".join(f"    config.{name} = {text}" for name, text in texts.items())
    path = tmp_path_factory.mktemp("configs") / "micro.py"
    path.write_text(MICRO_FILE.format(tokens=1664, variant=MICRO_VARIANT, lines=lines))
    return path


@pytest.fixture(scope="module")
def micro_config(micro_file: Path) -> Iterator[Callable[..., Any]]:
    """A function that gives the job's Config with some fields changed: `make({"mode": "train"})`."""
    from radvqa_jax.config.check import from_config_dict
    from radvqa_jax.models import variants

    def make(changed: dict[str, Any] | None = None) -> Any:
        config = runpy.run_path(str(micro_file))["get_config"]()
        config.update_from_flattened_dict(changed or {})
        return from_config_dict(config)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(variants, "VARIANTS", dict(variants.VARIANTS))
        yield make


class ChatServer(ThreadingHTTPServer):
    """An HTTP server of the OpenAI chat protocol on this machine, which behaves and misbehaves as configured.

    Attributes:
        requests: the bodies that came, in order.
        headers: the headers that came with them.
        behave: body -> (status, content type, body, headers) for the next replies.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.behave: Callable[[dict[str, Any]], tuple[int, str, bytes, dict[str, str]]] = lambda body: self.say("fine")
        super().__init__(("127.0.0.1", 0), _ChatHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is not an error of the server."""

    @staticmethod
    def say(text: str, *, finish: str = "stop", model: str = "") -> tuple[int, str, bytes, dict[str, str]]:
        """A proper reply; the handler replaces an empty `model` with the requested one."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
        return 200, "application/json", json.dumps(body | {"usage": usage}).encode(), {}


class _ChatHandler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.headers.append(self.headers)
        status, kind, reply, headers = self.server.behave(body)
        reply = reply.replace(b'"model": ""', b'"model": ' + json.dumps(body.get("model")).encode())
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(reply))} | headers
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A real HTTP server that speaks the OpenAI chat protocol."""
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
