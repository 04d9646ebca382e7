#!/usr/bin/env bash
# Trains on all accelerators of this machine.
#
#   bash launch/single_host.sh cuda train-teacher --data=DIR --workdir=DIR \
#       --config=configs/teacher.py:lite --config.mesh.fsdp=8
#
# The first word says what the machine has: cuda, tpu or cpu. The rest is a
# command of asymtalker. Run it again after an interruption: it goes on.
set -euo pipefail
case "${1:-}" in
  cuda) extra='[cuda]' ;;
  tpu) extra='[tpu]' ;;
  cpu) extra='' ;;
  *)
    echo "usage: bash launch/single_host.sh cuda|tpu|cpu VERB [FLAGS]" >&2
    exit 2
    ;;
esac
kind=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
source launch/xla_flags.sh
install_into_venv -e ".$extra"
if [ "$kind" = cuda ]; then
  xla_flags_gpu
fi
exec .venv/bin/asymtalker "$@"
