#!/usr/bin/env bash
# Writes the hashes of every file of every pinned version into the lock files; run it after a change of a version there.
#   bash scripts/lock.sh          needs uv (pip install uv)
# Lines are `name==version`; what follows them is written anew. scripts/env.sh installs with --require-hashes, so that a
# file which was exchanged at an index is refused.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "lock: uv is missing: pip install uv" >&2; exit 1; }

for lock in requirements-build.lock requirements-audit.lock requirements.lock requirements-tf.lock requirements-docs.lock \
  requirements-judge.lock; do
  work=$(mktemp -d)
  grep -E '^(#|-r )' "$lock" >"$work/head" || true
  grep -oE '^[A-Za-z0-9_.-]+==[^ ;\\]+' "$lock" | sort -f >"$work/pins"
  uv pip compile --quiet --generate-hashes --no-deps --no-header --no-annotate --python-version 3.11 \
    --output-file "$work/hashed" "$work/pins"
  cat "$work/head" "$work/hashed" >"$work/new"
  mv "$work/new" "$lock"
  echo "lock: $lock holds $(wc -l <"$work/pins") versions"
  rm -r "$work"
done
