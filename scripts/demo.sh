#!/usr/bin/env bash
# Runs the whole job on synthetic images: data, stage 1, stage 2, evaluation, saliency and a report.
#   bash scripts/demo.sh [WORKDIR] [--config.field=value ...] [--debug]
# WORKDIR is runs/demo if not given. A run that is started again continues.
set -euo pipefail
[[ ${1:-} == --config* || ${1:-} == --debug ]] || source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
case ${1:---} in
  --*) workdir= ;;
  /*) workdir=$1 && shift ;;
  *) workdir=$PWD/$1 && shift ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$REPO"
exec python -m radvqa_jax.main --config configs/demo.py --workdir "${workdir:-runs/demo}" "$@"
