#!/usr/bin/env bash
# Builds an sdist, and a wheel from the sdist; installs the wheel away from the clone, and runs a short job and the API there.
#   bash scripts/package.sh [FOLDER]      FOLDER: where sdist and wheel go; a temporary one if not given
# The new environment sees the packages of the clone's environment, so that nothing is downloaded.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$REPO"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dist=$(realpath -m "${1:-$scratch/dist}")
mkdir -p "$dist" "$scratch/away"

# With the locked setuptools of the environment, and from a copy of the tracked files, because a build leaves files behind.
build() { # folder, sdist or wheel
  (cd "$1" && python -c "import sys; from setuptools import build_meta; build_meta.build_$2(sys.argv[1])" "$dist") >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" && exit 1; }
}
mkdir "$scratch/sources"
git ls-files -z | xargs -0 cp --parents -t "$scratch/sources"
build "$scratch/sources" sdist
tar -xzf "$dist"/radvqa_jax-*.tar.gz -C "$scratch"
build "$scratch"/radvqa_jax-*/ wheel

python -m venv --without-pip "$scratch/venv"
venv=$scratch/venv
lent=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$lent" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lent.pth"
python -m pip --quiet --disable-pip-version-check --python "$venv/bin/python" install --no-deps --no-index --force-reinstall "$dist"/radvqa_jax-*.whl

unset PYTHONPATH
export XLA_FLAGS=--xla_backend_optimization_level=0 # compiles faster; the demo in .ci/run has all optimisations
cd "$scratch/away"
"$venv/bin/radvqa" list datasets >/dev/null
"$venv/bin/radvqa" doctor
tiny=(--config.{stages.stage1.sources[0],stages.stage2.sources[0],eval.source,eval.train_source}.builder_config=tiny)
"$venv/bin/radvqa" demo "${tiny[@]}" --config.stages.stage1.total_steps=2 --config.stages.stage2.total_steps=4 \
  --config.stages.stage2.optim.warmup_steps=1 --config.eval.source.limit=8 --config.eval.bootstrap=50 --config.eval.swapped=false --config.saliency.cases=1 \
  --config.saliency.methods='("raw",)' --config.data.data_dir="$scratch/data" >"$scratch/log" 2>&1 || { cat "$scratch/log" && exit 1; }
test -s runs/demo/report.html && test -s runs/demo/stage2/adapter.npz
# The example at the top of README.md, with the embedded model.
"$venv/bin/python" - "$venv" "$REPO" <<'PY'
import pathlib, re, sys

import matplotlib

matplotlib.use("agg")
import PIL.Image
import radvqa_jax

assert pathlib.Path(radvqa_jax.__file__).is_relative_to(sys.argv[1]), radvqa_jax.__file__
PIL.Image.new("L", (300, 200), 90).save("chest.png")
lines = re.search(r"```python\n(.*?)```", (pathlib.Path(sys.argv[2]) / "README.md").read_text(), re.S)[1]
lines = re.sub(r'load\("[^"]+", adapter="[^"]+"\)', 'load("embedded", adapter="runs/demo/stage2")', lines)
lines = re.sub(r'word="\w+", ', "", lines)  # the embedded model may answer with other words
assert '"embedded"' in lines, lines
exec(lines)
assert pathlib.Path("out/adapter_model.safetensors").is_file()
PY
echo "the package works away from the clone: $(basename "$dist"/*.whl), $(basename "$dist"/*.tar.gz)"
