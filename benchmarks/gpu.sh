#!/usr/bin/env bash
# Everything there is to learn on a machine with an NVIDIA GPU, in one call under ten minutes: benchmarks/gpu.sh OUT
#
# Builds the kernels in place, runs the ops' tests, compute-sanitizer and the benchmarks; writes logs, results.json and
# table.md into OUT and prints the table last. Needs nvcc, a C++ compiler, torch, numpy, pybind11, ninja, setuptools,
# pytest and hypothesis; downloads and installs nothing. PYTHON is the interpreter (python3).
# Exit code: 0; 1 if the build, a test, a sanitizer or a benchmark failed; 3 if the build works but no GPU is there.
set -uo pipefail
[ $# -eq 1 ] || { sed -n '2,7p' "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin # compute-sanitizer may be in there only
status=0
end=$((SECONDS + 590))

# step SECONDS LOG COMMAND...: runs a command within a time, and within what is left of ten minutes; its words go to a
# log, the end of them here if it failed.
step() {
  local seconds=$1 log=$out/$2 code left=$((end - SECONDS))
  shift 2
  [ "$left" -ge "$seconds" ] || seconds=$((left > 1 ? left : 1))
  timeout -k 5 "$seconds" "$@" >"$log" 2>&1
  code=$?
  [ $code -eq 0 ] || tail -n 40 "$log"
  [ $code -ne 124 ] || echo "stopped after $seconds s"
  return $code
}

# sanitize TOOL: errors that it finds are failures; that it cannot run here is only told.
sanitize() {
  local code
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 step 75 "$1.log" compute-sanitizer --tool "$1" --error-exitcode 86 \
    --report-api-errors no "$python" benchmarks/gpu_sanitize.py
  code=$?
  case $code in
    0) echo "$1: no errors" ;;
    86) echo "$1: ERRORS, see $1.log"; status=1 ;;
    *) echo "$1: could not run here (exit code $code), see $1.log" ;;
  esac
}

echo "build"
step 400 build.log env IQAZOO_BUILD_EXT=1 IQAZOO_BUILD_CUDA=1 "$python" setup.py -q build_ext --inplace || {
  echo "the build FAILED"
  exit 1
}
reason=$("$python" -c 'from iqazoo.ops import available; print(available()["cuda"] or "")' 2>&1 | tail -n 1)
[ -z "$reason" ] || { echo "the kernels are built, but no GPU can be used here: $reason"; exit 3; }

echo "tests"
step 180 tests.log "$python" -m pytest tests/ops -q -m "not slow" -p no:cacheprovider --junitxml="$out/tests.xml" || {
  echo "tests FAILED"
  status=1
}
tail -n 1 "$out/tests.log"
if grep -q 'SKIPPED.*: cuda: ' "$out/tests.log"; then
  echo "tests FAILED: those of the GPU were skipped"
  status=1
fi

sanitize memcheck
sanitize racecheck

echo "benchmarks"
step 100 benchmarks.log "$python" benchmarks/gpu.py "$out" || { echo "benchmarks FAILED"; status=1; }
[ ! -f "$out/table.md" ] || cat "$out/table.md"
exit $status
