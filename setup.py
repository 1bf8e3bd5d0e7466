"""Metadata of the package: dependencies with the versions that were tested, extras for what only some need.

Two tested sets have exact versions: requirements.lock (Python >= 3.12) and requirements-oldest.lock (Python 3.11).
tests/test_repository.py checks that both are within the bounds here.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# 0.11.0 and 0.11.1 compute wrong results on NVIDIA GPUs (jax-ml/jax#40633; 0.11.0 also #39486). 0.10.2 is the last one
# for Python 3.11; `device_check.py` names what is reported of it, and `runtime.py` avoids it on the CPU.
JAX = ">=0.10.2,!=0.11.0,!=0.11.1,<0.13"

# Lower bound: the oldest version that was tested. Upper bound: the next release that may break an interface.
INSTALL_REQUIRES = [
    "absl-py>=2.5,<3",
    "annotated-types>=0.8,<1",
    "array-record>=0.8.6,<0.9",
    "certifi>=2026.10",
    "datasketch>=2.0,<3",  # MinHash, for questions that repeat each other
    "einops>=0.8.2,<0.9",
    "filelock>=4.3.1,<5",
    "flax>=0.12.8,<0.13",
    "google-re2>=1.1.20251105,<2",
    "grain>=0.2.18,<0.3",
    "imagehash>=4.3.2,<5",
    "importlib_resources>=7.1",  # tensorflow-datasets imports it and does not declare it
    f"jax{JAX}",
    "jaxtyping>=0.3.11,<0.4",
    "jinja2>=3.1.6,<4",
    "markupsafe>=3.0.3,<4",
    "matplotlib>=3.11,<4",
    "ml-collections>=1.1,<2",
    "nltk>=3.10.4,<4",  # with rouge-score and sacrebleu: the published metrics
    "numpy>=2.4,<3",
    "opencc>=1.4.2,<2",  # traditional characters to simplified ones
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "pillow>=13,<14",
    "protobuf>=7.36,<8",
    "psutil>=7.2.2,<8",
    "pyarrow>=26,<27",
    "pydantic>=2.14.4,<3",
    "python-calamine>=0.9.1,<0.10",  # xlsx, as VLMEvalKit writes its predictions
    "rapidfuzz>=3.14.6,<4",
    "requests>=2.34,<3",  # whether a host answers, before TFDS downloads from it
    "rouge-score>=0.1.2,<0.2",
    "sacrebleu>=2.6,<3",
    "safetensors>=0.8,<0.9",
    "scipy>=1.17,<2",
    "sentencepiece>=0.2.3,<0.3",
    "tensorboardX>=2.6.5,<3",
    "tensorflow-datasets>=4.9.10,<5",  # without TensorFlow: files are ArrayRecord
    "tqdm>=4.70,<5",
    "urllib3>=2.8,<3",  # requests to chat models
]

# Decoders of compressed pixels: all of them BSD, MIT or Apache-2.0. pylibjpeg-libjpeg (12-bit JPEG) is under the GPL.
DICOM = [
    "pydicom>=3.0.2,<4",
    "pyjpegls>=1.5.1,<2; python_version < '3.14'",  # python-gdcm reads the same files; no wheel for 3.14
    "pylibjpeg>=2.1,<3",
    "pylibjpeg-openjpeg>=2.6,<3",
    "python-gdcm>=3.2.6,<4",
]
CROISSANT = ["mlcroissant>=1.1.1,<2"]
QUANTIZE = ["qwix>=0.1.8,<0.2"]
JUDGE = ["httpx2>=2.16,<3", "openai>=3.57,<4"]  # scripts/check_endpoint.py asks as other people's programs do
TEST = [
    "beartype>=0.23,<0.24",
    "hypothesis>=6.170,<7",
    "ipykernel>=7.4,<8",
    "nbclient>=0.11,<0.12",
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "selenium>=4.51,<5",  # with the browser's own driver: nothing is downloaded
    *CROISSANT,
    *DICOM,
    *JUDGE,
    *QUANTIZE,
]

EXTRAS_REQUIRE = {
    "cuda": [f"jax[cuda13]{JAX}"],
    "tpu": [f"jax[tpu]{JAX}"],
    "tf": ["tensorflow-cpu>=2.21,<2.22"],  # for tests marked `tf`; the main job never loads it
    "quantize": QUANTIZE,
    "bertscore": ["bert-score>=0.3.13,<0.4"],  # brings torch; runs on a model folder of your own
    "judge": JUDGE,
    # A server and a loader of exports that this project did not write, and what a small real model in GGUF needs.
    "judge-test": [
        "gguf>=0.19,<0.20",
        "peft>=0.21.2,<0.22",
        "torch>=2.13,<3",
        "transformers[serving]>=5.23,<6",
    ],
    "dicom": DICOM,
    "croissant": CROISSANT,  # metadata of written questions
    "bench": ["peft>=0.21.2,<0.22", "torch>=2.13,<3", "transformers>=5.23,<6"],
    "docs": ["furo>=2025.12.19", "myst-parser>=5.2,<6", "sphinx>=9.0.4,<10"],  # scripts/docs.sh
    "wandb": ["wandb>=0.31,<0.32"],  # config.wandb.project: scalars of training, for those who use the service
    "notebook": ["ipykernel>=7.4,<8", "jupyterlab>=4.6,<5", "nbclient>=0.11,<0.12", "nbconvert>=7.17,<8"],
    "test": TEST,
    "dev": [*TEST, "pyright>=1.1.414,<1.2", "ruff>=0.17.6,<0.18", "uv>=0.13.9,<0.14"],
}


def read_version() -> str:
    """`__version__` of the package, without importing it."""
    text = (ROOT / "radvqa_jax" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if match is None:
        raise ValueError('radvqa_jax/__init__.py must hold one line `__version__ = "…"`.')
    return match.group(1)


setup(
    name="radvqa_jax",
    version=read_version(),
    description="PaliGemma adapted to radiological visual question answering, in JAX and Flax",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="jax flax paligemma lora radiology visual question answering",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["radvqa_jax", "radvqa_jax.*", "tfds_builders", "tfds_builders.*"]),
        "radvqa_jax.configs",
        "radvqa_jax.configs.papers",
    ],
    # The experiments travel along; `--config demo` finds them there, and in a clone where they are.
    package_dir={"radvqa_jax.configs": "configs", "radvqa_jax.configs.papers": "configs/papers"},
    entry_points={"console_scripts": ["radvqa = radvqa_jax.main:main"]},
    package_data={
        "tfds_builders": ["*/README.md", "*/CITATIONS.bib", "*/counts.json", "*/dummy_data/**/*"],
        "radvqa_jax": ["assets/**/*", "**/templates/*", "**/*.json", "**/*.tsv"],
    },
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
