#!/usr/bin/env bash
# Makes the Python environment if it is missing or out of date, and puts it first on PATH. In bash, from any folder:
#   source scripts/env.sh
# RADVQA_VENV    its folder; .venv of the repository if not given
# RADVQA_LOCK    the versions to install. If not given: requirements-oldest.lock (Python 3.11; the whole suite runs on it), or
#                requirements.lock (the newest set, Python >= 3.12) if no Python 3.11 is found. With the extra cuda or tpu
#                requirements.lock comes first. An environment that exists keeps its Python.
# RADVQA_EXTRAS  extras of setup.py to add, such as cuda or judge,quantize
# RADVQA_PYTHON  the Python to make it with; if not given, one is searched on PATH and under pyenv
# An environment has a stamp of its contents. If the stamp says that it was interrupted, it is made again; if the stamp is
# old, it is brought up to date. An environment that this script did not make is used as it is and never deleted.

# Another shell does not know the path of this file, and would take another folder for the repository.
[ -n "${BASH_VERSION:-}" ] || { echo "env: this shell is not bash. Start bash, and repeat: source scripts/env.sh" >&2; return 1; }

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

radvqa_say() { echo "env: $*" >&2; }

# Prints the Pythons that a lock is for, best first, from its line `# python: ...` or from that of a lock that it includes.
radvqa_pythons() {
  local named
  named=$(radvqa_lock_text "$1" | sed -n 's/^# python: //p' | head -n 1)
  echo "${named:-3.13 3.12 3.14 3.11}"
}

# Prints a Python that a lock is for. Each is tried by running it: of pyenv's commands on PATH only the selected one runs.
radvqa_find_python() {
  local lock=$1 version candidate
  local test='import ensurepip, sys, sysconfig, venv
sys.exit(sys.argv[1] != "%d.%d" % sys.version_info[:2] or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))'
  for version in $(radvqa_pythons "$lock"); do
    while read -r candidate; do
      if "$candidate" -c "$test" "$version" </dev/null 2>/dev/null; then
        echo "$candidate"
        return 0
      fi
    done < <(radvqa_candidates "$version")
  done
  return 1
}

radvqa_candidates() {
  if [ -n "${RADVQA_PYTHON:-}" ]; then
    echo "$RADVQA_PYTHON"
  else
    echo "python$1"
    printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3 | sort -rV
    printf '%s\n' python3 python
  fi
}

# Prints the version of an environment's Python, such as 3.13; nothing if it does not run.
radvqa_version() {
  "$1/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Prints the lock to install: the given one, the tested set for the environment's Python, or the set for a Python that exists.
radvqa_choose_lock() {
  local venv=$1 lock version sets=("$REPO/requirements-oldest.lock" "$REPO/requirements.lock")
  # On GPUs jax 0.10.2 has known miscompilations, and the newest set has none; on CPUs 0.10.2 compiles five times as fast.
  case ,${RADVQA_EXTRAS:-}, in *,cuda,* | *,tpu,*) sets=("$REPO/requirements.lock" "$REPO/requirements-oldest.lock") ;; esac
  if [ -n "${RADVQA_LOCK:-}" ]; then
    case $RADVQA_LOCK in /*) echo "$RADVQA_LOCK" ;; *) echo "$PWD/$RADVQA_LOCK" ;; esac
    return 0
  fi
  version=$(radvqa_version "$venv")
  for lock in "${sets[@]}"; do
    case " $(radvqa_pythons "$lock") " in *" ${version:-none} "*) echo "$lock" && return 0 ;; esac
  done
  for lock in "${sets[@]}"; do
    if radvqa_find_python "$lock" >/dev/null; then
      echo "$lock"
      return 0
    fi
  done
  radvqa_say "no Python >= 3.11 with venv and pip was found${RADVQA_PYTHON:+ (RADVQA_PYTHON=$RADVQA_PYTHON)}. The tested sets are" \
    "for $(radvqa_pythons "${sets[0]}") and $(radvqa_pythons "${sets[1]}"). Install one of these (Debian: apt install python3" \
    "python3-venv) or name one: RADVQA_PYTHON=/path/to/python3."
  return 1
}

# Prints the packages of a lock that the environment of this Python lacks: up to eight names, and the number of the others.
radvqa_lacks() {
  "$1" - "$2" <<'PY'
import importlib.metadata, re, sys

have = {re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower() for d in importlib.metadata.distributions()}
lines = [line for line in open(sys.argv[1]) if "==" in line and line[0] not in "# -" and ";" not in line]
want = [line.split("==")[0] for line in lines]  # not what only some Pythons need
lacks = [name for name in want if re.sub(r"[-_.]+", "-", name).lower() not in have]
if lacks:
    print(", ".join(lacks[:8]) + (f" and {len(lacks) - 8} more" if len(lacks) > 8 else ""))
PY
}

# Prints the one name of a folder, which may be given through links, with `..` or with a slash at its end.
radvqa_place() {
  local parent
  if [ -d "$1" ]; then
    (cd "$1" && pwd -P)
  else
    mkdir -p "$(dirname "$1")" && parent=$(cd "$(dirname "$1")" && pwd -P) && echo "${parent%/}/$(basename "$1")"
  fi
}

# Prints missing, foreign (not made here), current, old (to be brought up to date) or broken.
radvqa_state() {
  local venv=$1 want=$2 have
  if [ -z "$(ls -A "$venv" 2>/dev/null)" ]; then
    echo missing
  elif ! have=$(cat "$venv/.radvqa-stamp" 2>/dev/null); then
    echo foreign
  elif [ -z "$(radvqa_version "$venv")" ] || ! [ "${have%%|*}" -ef "$venv" ]; then
    echo broken
  elif [ "$have" = "$want" ]; then
    echo current
  else
    echo old
  fi
}

# Makes the environment again. The stamp is written first, so that an interrupted environment is known as this script's.
radvqa_create() {
  local venv=$1 lock=$2 python
  if ! python=$(radvqa_find_python "$lock"); then
    radvqa_say "$(basename "$lock") is for Python $(radvqa_pythons "$lock" | sed 's/ / or /g'), and none with venv and pip was" \
      "found${RADVQA_PYTHON:+ (RADVQA_PYTHON=$RADVQA_PYTHON)}. Install one, or name one: RADVQA_PYTHON=/path/to/python3."
    return 1
  fi
  radvqa_say "making $venv with $("$python" -V) and $(basename "$lock") (once; 1 to 5 minutes, 1.2 GB or more) ..."
  rm -rf "$venv" && mkdir -p "$venv" && echo making >"$venv/.radvqa-stamp" && "$python" -m venv "$venv"
}

# Prints the files of a lock, those that it includes first.
radvqa_locks() {
  local lock=$1 other
  while read -r other; do radvqa_locks "$(dirname "$lock")/$other"; done < <(sed -n 's/^-r //p' "$lock")
  echo "$lock"
}

radvqa_lock_text() {
  local file
  while read -r file; do cat "$file" || return 1; done < <(radvqa_locks "$1")
}

# Every package with hashes in the lock is checked against them, as are the tools that build packages from source. Extras
# that the lock lacks and locks without hashes are not checked: pip takes hashes for all packages of a command or for none.
radvqa_install() {
  local venv=$1 lock=$2 extras=$3 part="$1/.radvqa-part" pins="$1/.radvqa-constraints" file
  local pip=("$venv/bin/python" -m pip --quiet --quiet --no-input --disable-pip-version-check)
  "${pip[@]}" install --require-hashes --no-deps -r "$REPO/requirements-build.lock" || return 1
  radvqa_lock_text "$lock" | grep -oE '^[A-Za-z0-9_.-]+==[^ ;\\]+' >"$pins" || return 1
  # --use-pep517: every pip builds source packages in the same way, here with the tools that were just installed.
  while read -r file; do
    grep -v '^-r ' "$file" >"$part"
    if grep -q -- --hash= "$part"; then
      "${pip[@]}" install --use-pep517 --no-build-isolation --require-hashes --no-deps -r "$part" || return 1
    else
      "${pip[@]}" install --use-pep517 -c "$pins" -r "$part" || return 1
    fi
  done < <(radvqa_locks "$lock")
  "${pip[@]}" install --use-pep517 --no-build-isolation --no-deps -e "$REPO" || return 1
  [ -z "$extras" ] || "${pip[@]}" install --use-pep517 -c "$pins" -e "$REPO[$extras]"
}

radvqa_make() {
  local venv=$1 lock=$2 extras=$3 want=$4 start=$SECONDS lacks other
  case $(radvqa_state "$venv" "$want") in
    current) return 0 ;; # another process made it while this one waited
    foreign)
      lacks=$(radvqa_lacks "$venv/bin/python" "$lock" 2>/dev/null) || lacks="a Python that runs"
      if [ -n "$lacks" ]; then
        radvqa_say "$venv was not made by this script and lacks $lacks. Install into it (pip install -r $lock), or remove" \
          "the folder and let this script make it."
        return 1
      fi
      radvqa_say "using $venv as it is: it was not made by this script."
      return 0
      ;;
    missing) radvqa_create "$venv" "$lock" || return 1 ;;
    broken)
      radvqa_say "$venv was interrupted, moved or broken."
      radvqa_create "$venv" "$lock" || return 1
      ;;
    old)
      other=$(cut -d'|' -f2 "$venv/.radvqa-stamp")
      if [ -d "$other" ] && ! [ "$other" -ef "$REPO" ]; then
        radvqa_say "$venv belongs to the clone in $other, which would lose it. Set RADVQA_VENV to another folder."
        return 1
      fi
      case " $(radvqa_pythons "$lock") " in
        *" $(radvqa_version "$venv") "*) ;;
        *)
          radvqa_say "$venv has Python $(radvqa_version "$venv"), and $(basename "$lock") is for $(radvqa_pythons "$lock")." \
            "Remove the folder, or set RADVQA_VENV to another one."
          return 1
          ;;
      esac
      radvqa_say "bringing $venv up to date with setup.py and $(basename "$lock") ..."
      ;;
  esac
  if ! radvqa_install "$venv" "$lock" "$extras"; then
    radvqa_say "the installation failed; the lines above say why. Fix that and run this again."
    return 1
  fi
  echo "$want" >"$venv/.radvqa-stamp"
  radvqa_say "ready after $((SECONDS - start)) s."
}

radvqa_env() {
  local venv=${RADVQA_VENV:-$REPO/.venv} extras=${RADVQA_EXTRAS:-} lock want
  case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
  venv=$(radvqa_place "$venv") || return 1
  lock=$(radvqa_choose_lock "$venv") || return 1
  want="$venv|$REPO|$extras|$(radvqa_lock_text "$lock" | cat "$REPO/setup.py" "$REPO/requirements-build.lock" - | cksum)" || return 1
  if [ "$(radvqa_state "$venv" "$want")" != current ]; then
    # One at a time, if the machine has flock: a second call would take the first call's work for an interrupted one.
    (
      trap 'radvqa_say "stopped by Ctrl-C. Run it again to continue."; exit 130' INT
      ! command -v flock >/dev/null || flock 9
      radvqa_make "$venv" "$lock" "$extras" "$want"
    ) 9<"$REPO" || return $?
  fi
  export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
  # On a CPU, XLA allocates the buffers of every step again. glibc would return their pages and fault them in again.
  export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-1} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8000000000}
  export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-8000000000} MALLOC_TOP_PAD_=${MALLOC_TOP_PAD_:-268435456}
}

radvqa_env
