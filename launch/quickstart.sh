#!/usr/bin/env bash
# From a fresh clone to a talking video, on a laptop.
#
#   bash launch/quickstart.sh                 bundled portrait and speech
#   bash launch/quickstart.sh IMAGE AUDIO     yours
#
# Makes .venv, installs the package into it and writes out/quickstart.mp4 with a
# contact sheet and a report. A second run only generates.
set -euo pipefail

if [ $# -ne 0 ] && [ $# -ne 2 ]; then
  echo "usage: bash launch/quickstart.sh [IMAGE AUDIO]" >&2
  exit 2
fi
if [ $# -eq 2 ]; then
  for file in "$1" "$2"; do
    [ -f "$file" ] || { echo "$file: no such file" >&2; exit 2; }
  done
  image=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  audio=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=${image:-asymtalker_jax/pretrained/tiny/portrait.png}
audio=${audio:-asymtalker_jax/pretrained/tiny/speech.wav}
source launch/environment.sh

[ -x .venv/bin/asymtalker ] ||
  echo "installing into .venv (about two minutes) ..."
install_into_venv -e .

mkdir -p out
.venv/bin/asymtalker generate --bundle=tiny --image="$image" \
  --audio="$audio" --output=out/quickstart.mp4 \
  --contact_sheet=out/quickstart.png --report=out/quickstart.json
echo "video:         $PWD/out/quickstart.mp4"
echo "contact sheet: $PWD/out/quickstart.png"
echo "report:        $PWD/out/quickstart.json"
