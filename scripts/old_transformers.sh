#!/usr/bin/env bash
# Installs the oldest transformers that exports are tested with into a folder, which goes on PYTHONPATH before a newer one.
#   bash scripts/old_transformers.sh DIR [PYTHON]
#   RADVQA_TRANSFORMERS_OLD=DIR bash scripts/test.sh -m torch tests/export
# 4.52 is the first version with the names that adapters are written in. torch and peft are those of the environment, so
# that the folder takes only 130 MB.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
folder=${1:?give the folder to fill}
python=${2:-python}
[ -f "$folder/transformers/__init__.py" ] && exit 0
"$python" -m pip install --quiet --no-deps --disable-pip-version-check --target "$folder.part" \
  transformers==4.52.4 tokenizers==0.21.4 huggingface_hub==0.36.2 \
  requests==2.34.2 urllib3==2.8.0 charset_normalizer==3.5.3 idna==3.20 certifi
mv "$folder.part" "$folder"
