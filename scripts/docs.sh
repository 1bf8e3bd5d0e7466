#!/usr/bin/env bash
# Builds the documentation as a site: strictly (a dead link is an error), and without anything that a page would load from elsewhere.
#   bash scripts/docs.sh [FOLDER]      FOLDER: where the site goes; build/site if not given. Open index.html there.
# Sphinx is in an environment of its own (.venv-docs, 50 MB), which also sees the packages of the clone's environment.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
folder=$(realpath -m "${1:-$REPO/build/site}")
cd "$REPO"
venv=${RADVQA_DOCS_VENV:-.venv-docs}
lent=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Made again when the lock or the clone's environment changed: the latter may have another Python.
if ! { cat requirements-docs.lock && echo "$lent"; } | cmp -s - "$venv/made-from"; then
  if [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -e "$venv/made-from" ] && [ ! -e "$venv/own.lock" ]; then
    echo "docs: $venv was not made by this script, and is not deleted. Remove it, or give another RADVQA_DOCS_VENV." >&2
    exit 1
  fi
  rm -rf "$venv"
  python -m venv --without-pip "$venv"
  grep -v '^-r ' requirements-docs.lock >"$venv/own.lock"
  python -m pip --quiet --disable-pip-version-check --python "$venv/bin/python" install --require-hashes --no-deps -r "$venv/own.lock"
  echo "$lent" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lent.pth"
  { cat requirements-docs.lock && echo "$lent"; } >"$venv/made-from"
fi
PYTHONPATH=$REPO exec "$venv/bin/python" scripts/docs_site.py "$folder"
