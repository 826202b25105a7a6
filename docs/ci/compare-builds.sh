#!/usr/bin/env bash
# compare-builds.sh ENGINE BASE HEAD [PYTEST-OPTION...]
# Builds two commits of the engine whose checkout this is, launches them in turn, and leaves the run in perfgate-run.
# Needs git, Python 3.11 or newer and GPUs. A commit is built once: later jobs find it in PERFGATE_BUILDS.
#   PERFGATE_BUILDS    folder of builds (default: ~/.cache/perfgate-builds)
#   PERFGATE_SUITE     environment that has perfgate (default: one is made in PERFGATE_BUILDS)
#   PERFGATE_MARK      hardware: h200, h100, a100, or gpu for any other (default: gpu)
#   PERFGATE_INSTALL   installs the source in . by "$PYTHON" (default: "$PYTHON" -m pip install .)
set -euo pipefail
shopt -s inherit_errexit

if [ $# -lt 3 ]; then
    sed -n '2,8s/^# //p' "$0" >&2
    exit 2
fi
engine=$1
base=$(git rev-parse --verify "$2^{commit}")
head=$(git rev-parse --verify "$3^{commit}")
shift 3
builds=${PERFGATE_BUILDS:-$HOME/.cache/perfgate-builds}
suite=${PERFGATE_SUITE:-$builds/suite}
# shellcheck disable=SC2016  # $PYTHON is of the build
install=${PERFGATE_INSTALL:-'"$PYTHON" -m pip install --quiet .'}
mkdir -p "$builds"

# Prints the Python of a commit's build. What was not finished is built again.
build() {
    local folder="$builds/$engine-$1"
    if [ ! -e "$folder/built" ]; then
        echo "building $engine $1" >&2
        rm -rf "$folder"
        mkdir -p "$folder"
        # A clone: setuptools-scm takes the engine's version from git.
        git clone --quiet --shared --no-checkout "$(git rev-parse --show-toplevel)" "$folder/source"
        git -C "$folder/source" checkout --quiet --detach "$1"
        python3 -m venv "$folder/environment"
        (
            cd "$folder/source"
            PYTHON="$folder/environment/bin/python" bash -c "$install"
        ) >&2 9>&-
        touch "$folder/built"
    fi
    echo "$folder/environment/bin/python"
}

# One job builds at a time: two with the same merge base would remove each other's.
exec 9>"$builds/.lock"
flock 9
# pip puts perfgate there last: without it the suite was not finished.
if [ ! -x "$suite/bin/perfgate" ]; then
    [ -n "${PERFGATE_SUITE:-}" ] || rm -rf "$suite"
    python3 -m venv "$suite"
    "$suite/bin/python" -m pip install --quiet perfgate
fi
base_python=$(build "$base")
head_python=$(build "$head")
exec 9>&-
"$suite/bin/pytest" --pyargs perfgate.study -m "${PERFGATE_MARK:-gpu}" --engine "$engine" --weights dummy \
    --engine-python "$engine=$head_python" --against-engine "$engine=$base_python" \
    --run-dir=perfgate-run "$@"
