#!/usr/bin/env bash
# Runs a command on every host of a Cloud TPU slice, and again after each
# preemption, until it has ended. Keep the terminal open (tmux).
#
#   PROJECT=p ZONE=us-west4-b IMAGE=REGISTRY/asymtalker:tpu \
#     SHARE=10.0.0.2:/share bash launch/tpu_pod.sh v5litepod-256 train-teacher \
#         --config=configs/teacher.py:pro --data=/share/latents \
#         --workdir=/share/teacher
#
# IMAGE  of launch/Dockerfile with EXTRA=tpu, where the slice can pull it
# SHARE  an NFS folder (Filestore), mounted as /share: data and checkpoints
# NAME   of the slice and its request; SPOT=0 asks for capacity that stays
# KEEP=1 leaves the slice when the command has ended
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
: "${PROJECT:?names the cloud project}" "${ZONE:?names the zone}"
: "${IMAGE:?names the container}" "${SHARE:?names the NFS folder}"
NAME=${NAME:-asymtalker}
RETRIES=5  # in a row, on a slice that stays
accelerator=$1
shift
case "$accelerator" in
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *)
    echo "$accelerator: expected v5litepod-N, v5p-N or v6e-N" >&2
    exit 2
    ;;
esac
spot=()
[ "${SPOT:-1}" = 0 ] || spot=(--spot)
where=(--project="$PROJECT" --zone="$ZONE")

# Of the slice; NONE only where gcloud says that there is none. When it cannot
# tell (network, credentials, quota of requests), asks until it can.
state() {
  local said
  # The state goes out past `said`, which gets what stands on stderr.
  until { said=$(gcloud compute tpus queued-resources describe "$NAME" \
    "${where[@]}" --format='value(state.state)' 2>&1 >&3); } 3>&1; do
    if [[ $said == *NOT_FOUND* ]]; then
      echo NONE
      return
    fi
    echo "$(date +%T) $NAME: state unknown, asking again: $said" >&2
    sleep 30
  done
}

remove() {
  gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" \
    --force --quiet || true
}

# Returns when the slice is there; asks for it again when it was taken.
await_slice() {
  local now
  while true; do
    now=$(state)
    case "$now" in
      ACTIVE) return ;;
      NONE)
        gcloud compute tpus queued-resources create "$NAME" "${where[@]}" \
          --node-id="$NAME" --accelerator-type="$accelerator" \
          --runtime-version="$runtime" "${spot[@]}" ||
          echo "$(date +%T) $NAME: not created, see above; asking again" >&2
        ;;
      FAILED | SUSPENDED) remove ;;
      *) echo "$(date +%T) $NAME: $now" ;;
    esac
    sleep 30
  done
}

on_all() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all \
    --command="$1"
}

[ "${KEEP:-0}" = 1 ] || trap remove EXIT
mount="sudo apt-get -qq install -y nfs-common && sudo mkdir -p /share &&
  (mountpoint -q /share || sudo mount '$SHARE' /share)"
registry=${IMAGE%%/*}
# Privileged: the container sees the TPUs. Network of the host: the processes
# find each other through the metadata of the machine.
run="sudo gcloud auth configure-docker --quiet '$registry' &&
  { sudo docker rm --force asymtalker >/dev/null 2>&1 || true; } &&
  sudo docker run --rm --name=asymtalker --privileged --network=host --volume=/share:/share \
  '$IMAGE' $(printf '%q ' "$@")"

failures=0
while true; do
  await_slice
  code=0
  on_all "$mount" && on_all "$run" || code=$?
  case "$code" in
    0) exit 0 ;;
    2 | 3) failures=$RETRIES ;;  # Would fail again.
    *) sleep 60 ;;  # SIGTERM comes some time before a slice says it is gone.
  esac
  if [ "$(state)" = ACTIVE ]; then
    failures=$((failures + 1))
  else
    failures=0
  fi
  if [ "$failures" -gt "$RETRIES" ]; then
    echo "$NAME: the command failed ($code); see its last lines" >&2
    exit "$code"
  fi
  echo "$NAME: ended with $code; the run goes on from its last checkpoint" >&2
done
