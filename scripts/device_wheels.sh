#!/usr/bin/env bash
# Collects the wheels that scripts/device_day.py needs on a machine without network. That machine has a Python with
# JAX, torch and what usually comes with them.
#   bash scripts/device_wheels.sh FOLDER                              here: Python 3.12, x86-64, under 60 MB
#   python -m pip install --no-index --no-deps FOLDER/*.whl           there
# The wheels are those listed below, without what JAX and torch come with; --no-deps keeps pip from replacing that.
# RADVQA_DEVICE_PYTHON=3.13 collects for another Python.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# = 1 ] || { echo "device_wheels: give the folder: bash scripts/device_wheels.sh FOLDER" >&2; exit 2; }
# pip installs nothing from a folder with two versions of a package.
[ -z "$(ls -A "$1" 2>/dev/null)" ] || { echo "device_wheels: $1 is not empty. Give a new folder." >&2; exit 2; }
python=${RADVQA_DEVICE_PYTHON:-3.12} limit_mb=60

# Data sets and configuration, and the dependencies of TensorFlow Datasets and the others.
names=(
  ml_collections tensorflow-datasets grain array-record imagehash qwix beartype
  annotated-types pydantic pydantic-core typing-inspection typing-extensions
  dm-tree immutabledict importlib_resources pyarrow-hotfix simple-parsing docstring-parser
  tensorflow-metadata googleapis-common-protos termcolor toml portpicker PyWavelets
  datasketch defusedxml google-re2 nltk opencc python-calamine rapidfuzz tensorboardX
)
built=(promise rouge-score) # pure Python, and published as sources only
mkdir -p "$1"
platforms=()
for glibc in 2_17 2_24 2_26 2_27 2_28 2_31 2_34; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
# The tested version where the lock has one.
pinned() {
  for name in "$@"; do
    grep -m1 -ioE "^${name//[-_]/[-_]}==[^ ;\\]+" requirements.lock || echo "$name"
  done
}
mapfile -t wanted < <(pinned "${names[@]}")
mapfile -t sources < <(pinned "${built[@]}")
python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
  --python-version "$python" "${platforms[@]}" --dest "$1" "${wanted[@]}"
python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$1" "${sources[@]}"
megabytes=$(du -sm "$1" | cut -f1)
echo "device_wheels: $(find "$1" -name '*.whl' | wc -l) wheels, $megabytes MB, in $1"
[ "$megabytes" -lt "$limit_mb" ] || { echo "device_wheels: that is more than $limit_mb MB" >&2; exit 1; }
