#!/usr/bin/env bash
# Compiles the full-size steps for TPU slices that are not here, and writes
# docs/results/compile_check/*.json. Needs no TPU, and 6 GB for the student.
#
#   bash launch/compile_check.sh             all of them
#   bash launch/compile_check.sh teacher     those whose name has the word
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
install_into_venv -e '.[tpu]'
wanted=${1:-}

check() {
  local name=$1
  shift
  [[ $name == *"$wanted"* ]] || return 0
  .venv/bin/asymtalker compile-check "$@" \
    --out="docs/results/compile_check/$name.json" ||
    echo "$name: exit code $?" >&2
}
check teacher_pro_v5e_16x16 --config=configs/teacher.py:pro --topology=v5e:16x16
check teacher_pro_v5p_4x4x4 --config=configs/teacher.py:pro --topology=v5p:4x4x4
check teacher_lite_v5e_8x8 --config=configs/teacher.py:lite --topology=v5e:8x8
check student_pro_v5e_16x16 --config=configs/student.py:pro --topology=v5e:16x16
# 64 chips: one example on each.
check student_pro_v5p_4x4x4 --config=configs/student.py:pro \
  --topology=v5p:4x4x4 --config.mesh.seq=1
check student_lite_v5e_8x8 --config=configs/student.py:lite --topology=v5e:8x8
check generation_lite_v5e_2x2 --config=configs/student.py:lite \
  --kind=generation --topology=v5e:2x2 --config.mesh.fsdp=1 \
  --config.mesh.seq=4 --config.batch_size=1
