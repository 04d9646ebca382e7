#!/usr/bin/env bash
# The tiny model from nothing: data, VAE, teacher, student, bundle, evaluation.
#
#   bash launch/tiny.sh [FOLDER]      FOLDER is work/ where none is named
#
# Hours on two CPU cores. Every stage goes on where it stopped, so
# the script may be killed and run again at any time.
set -euo pipefail
work=${1:-work}
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
install_into_venv -e '.[puppets]'
keep_memory

asymtalker() { .venv/bin/asymtalker "$@"; }
asymtalker data build --dataset=puppets --out="$work/puppets"
asymtalker train-vae --config=configs/vae.py:tiny \
  --data="$work/puppets" --workdir="$work/vae"
asymtalker data encode --config=configs/encode.py:tiny \
  --data="$work/puppets" --vae="$work/vae/bundle" --out="$work/latents"
asymtalker train-teacher --config=configs/teacher.py:tiny \
  --data="$work/latents" --workdir="$work/teacher"
asymtalker train-student --config=configs/student.py:tiny \
  --data="$work/latents" --teacher="$work/teacher/bundle" \
  --workdir="$work/student"
asymtalker export --bundle="$work/student/bundle" --out="$work/tiny"
asymtalker evaluate --bundle="$work/tiny" --data="$work/puppets" \
  --out="$work/tiny_evaluation"
