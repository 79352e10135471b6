#!/usr/bin/env bash
# Everything there is to learn on a machine with an NVIDIA GPU, in one call: benchmarks/gpu.sh OUT
#
# Builds the kernels in place, runs the tests that need a GPU (the ops', the trainers', each metric's beside the CPU), the
# benchmarks and compute-sanitizer; writes logs, results.json and table.md into OUT and prints the table last. Needs nvcc,
# a C++ compiler, pybind11, ninja, setuptools, pytest, hypothesis and what iqazoo depends on; takes pytest-xdist where it
# is; downloads and installs nothing. PYTHON is the interpreter (python3). LIMIT is how many seconds all may take (590);
# what comes last is cut off first. BUILD=0 takes the modules that lie in iqazoo/, built elsewhere for that Python.
# Exit code: 0; 1 if the build, a test, a sanitizer or a benchmark failed; 3 if the build works but no GPU is there.
set -uo pipefail
[ $# -eq 1 ] || { sed -n '2,9p' "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin # compute-sanitizer may be in there only
rm -f "$out"/*.failures "$out/results.json" "$out/table.md"
status=0
end=$((SECONDS + ${LIMIT:-590}))

# step SECONDS LOG COMMAND...: runs a command within a time, and within what is left of all; its words go to a
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

# check NAME SECONDS ARGUMENTS...: tests, by several processes where they can; failures, which NAME.failures holds even of
# tests that were cut off, and tests of the GPU that were skipped, are told.
# Several processes, each with threads for all processors, would mostly wait for one another.
workers=()
"$python" -c 'import xdist' 2>/dev/null && workers=(-n "$(nproc)")
check() {
  local name=$1 seconds=$2
  shift 2
  OMP_NUM_THREADS=1 FAILURES=$out/$name.failures PYTHONPATH=$PYTHONPATH:$PWD/benchmarks step "$seconds" "$name.log" \
    "$python" -m pytest -q -W ignore --tb=short -p no:cacheprovider -p gpu_failures "${workers[@]}" "$@" || {
    echo "$name: tests FAILED"
    status=1
  }
  echo "$name: $(tail -n 1 "$out/$name.log")"
  ! grep -q 'SKIPPED.*: cuda: ' "$out/$name.log" || { echo "$name: tests of the GPU were SKIPPED"; status=1; }
}

# With egg_info, which holds the entry points, the package's metrics are found where it is not installed.
build=${BUILD:-1}
make_modules=(build_ext --inplace)
[ "$build" = 1 ] || make_modules=()
# Of all GPUs only the one that is here; where there is none, one that compiles fast.
architecture=80
if command -v nvidia-smi >/dev/null; then
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
  [[ $architecture =~ ^[0-9]+$ ]] || architecture=auto
fi
echo "build"
step 400 build.log env IQAZOO_BUILD_EXT="$build" IQAZOO_BUILD_CUDA="$build" IQAZOO_CUDA_ARCHITECTURES="$architecture" \
  "$python" setup.py -q egg_info "${make_modules[@]}" || {
  echo "the build FAILED"
  exit 1
}
reason=$("$python" -c 'from iqazoo.ops import available; print(available()["cuda"] or "")' 2>&1 | tail -n 1)
[ -z "$reason" ] || { echo "the kernels are built, but no GPU can be used here: $reason"; exit 3; }

echo "tests"
check ops 150 tests/ops -m "gpu and not slow"

echo "benchmarks"
step 150 benchmarks.log "$python" benchmarks/gpu.py "$out" || { echo "benchmarks FAILED"; status=1; }

check training 60 tests/train -m gpu
check metrics 60 tests/testing/test_builtin_metrics.py -k check_devices

sanitize memcheck
sanitize racecheck

[ ! -f "$out/table.md" ] || cat "$out/table.md"
exit $status
