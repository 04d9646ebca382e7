#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them.
#
#   bash tests/run.sh                 everything, on two processes
#   bash tests/run.sh tests/flow      words are handed to pytest
#
# Tests of what is optional are skipped where its package is missing: PyTorch,
# onnxruntime, diffusers with transformers, apache-beam. TEST_PACKAGES, as
# 'torch onnxruntime', are installed too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
read -ra packages <<<"${TEST_PACKAGES:-}"
install_into_venv -e '.[dev]' "${packages[@]}"

export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
# Two processes share the machine; more threads each would only compete.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
[ $# -gt 0 ] || set -- tests
# By file: what the tests of a file share is made once, not by each process.
exec .venv/bin/python -m pytest -n 2 --dist=loadfile -q --durations=10 "$@"
