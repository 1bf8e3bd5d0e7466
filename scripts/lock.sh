#!/usr/bin/env bash
# Writes the lock files: exact versions with the hashes of all their files. Run it after changing a bound in setup.py.
#   bash scripts/lock.sh [--upgrade]     needs uv (pip install uv)
# requirements.lock and requirements-oldest.lock are solved from setup.py for the Pythons in their line `# python: ...`; a
# version that is in the lock stays where the bounds allow it, unless --upgrade takes the newest of each. In the other locks
# the versions are written by hand (their first lines say how), and only the part after `name==version` is replaced.
# scripts/env.sh installs with --require-hashes, so that a file that was replaced at an index is refused.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "lock: uv is missing: pip install uv" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

lock() { # file, then the arguments of uv pip compile
  local file=$1 && shift
  grep -v "^-r " "$file" >"$work/hashed" # uv keeps the versions that it finds in its output
  uv pip compile --quiet --generate-hashes --no-header --no-annotate --output-file "$work/hashed" "$@"
  { grep -E '^(#|-r )' "$file" && cat "$work/hashed"; } >"$work/new"
  cp "$work/new" "$file"
  echo "lock: $file holds $(grep -c '==' "$file") versions"
}

lock requirements.lock setup.py --extra dev --universal --python-version 3.12 "$@"
lock requirements-oldest.lock setup.py --extra dev --python-version 3.11 "$@"
for file in requirements-build.lock requirements-audit.lock requirements-tf.lock requirements-docs.lock requirements-judge.lock; do
  grep -oE '^[A-Za-z0-9_.-]+==[^ ;\\]+' "$file" | sort -f >"$work/pins.in"
  lock "$file" "$work/pins.in" --no-deps --python-version 3.11
done
