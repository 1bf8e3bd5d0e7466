#!/usr/bin/env bash
# Writes a bill of materials of the environment (CycloneDX, JSON), and checks the locked versions for known vulnerabilities.
#   bash scripts/sbom.sh [FOLDER]        sbom.cdx.json, audit.json and audit-oldest.json there; the current folder if not given
# The two tools come with their hashes from requirements-audit.lock into an environment of their own. The audit needs a
# vulnerability service on the net. If none answers, or it does not know the packages, the script says so and ends with
# status 2: an audit without an answer has found nothing out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
out=$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-audit.lock

"$tools/bin/cyclonedx-py" environment --output-reproducible --of JSON -o "$out/sbom.cdx.json" "$VIRTUAL_ENV/bin/python"
echo "sbom: $out/sbom.cdx.json"

# Each tested set on its own: the tool refuses two versions of one package.
worst=0
for set in requirements requirements-oldest; do
  audit=$out/audit${set#requirements}.json status=0
  rm -f "$audit" # of an earlier run, which would stand for an answer of this one
  "$tools/bin/pip-audit" -r "$set.lock" --no-deps --disable-pip --require-hashes --progress-spinner off -f json \
    -o "$audit" 2>"$tools/said" || status=$?
  found=0
  "$tools/bin/python" - "$set.lock" "$audit" "$tools/said" "$status" <<'PY' || found=$?
import json, pathlib, sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

lock, path, said, status = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_text(), int(sys.argv[4])
asked = [Requirement(line.rstrip(" \\\n")) for line in open(lock) if "==" in line and line[0] not in "# -"]
asked = [one for one in asked if one.marker is None or one.marker.evaluate()]
found = json.loads(path.read_text())["dependencies"] if path.is_file() and path.stat().st_size else []
open_ = {item["name"]: [v["id"] for v in item["vulns"]] for item in found if item.get("vulns")}
if open_:
    sys.exit(f"audit of {lock}: known vulnerabilities: " + "; ".join(f"{name} {', '.join(ids)}" for name, ids in open_.items()))
answered = {canonicalize_name(item["name"]): item["version"] for item in found if "skip_reason" not in item}
without = [one.name for one in asked if not one.specifier.contains(answered.get(canonicalize_name(one.name), "0.dev0"), True)]
if status or without:
    print(f"audit of {lock}: no answer for {len(without)} of {len(asked)} packages. {said.strip().splitlines()[-1:]}", file=sys.stderr)
    sys.exit(2)
print(f"audit of {lock}: no known vulnerability in {len(asked)} packages")
PY
  # A known vulnerability (1) outweighs an audit without an answer (2).
  case $found in 0) ;; 1) worst=1 ;; *) [ "$worst" = 1 ] || worst=$found ;; esac
done
exit "$worst"
