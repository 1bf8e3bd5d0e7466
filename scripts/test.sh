#!/usr/bin/env bash
# Runs every test that needs neither TensorFlow nor torch; makes the environment first if it is missing.
#   bash scripts/test.sh [arguments of pytest, such as -k lora or tests/models]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$REPO"
# A file stays with one worker, so that shared fixtures are made once. tests/conftest.py sets the order.
exec python -m pytest -q -rfEs --durations=10 --durations-min=10 -n 2 --dist loadfile --no-loadscope-reorder -m "not tf and not torch" "$@"
