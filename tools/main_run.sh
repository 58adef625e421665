#!/usr/bin/env bash
# The main run, as it has been run: grow the pool, train on it, from the repository's root with runs outside of it.
#   tools/main_run.sh pool FACTOR     grow the pool to FACTOR times (1500 layered, 600 meshes, 600 photo warps, 500 rooms)
#   tools/main_run.sh train [...]     start or resume ../runs/main; further arguments go to `depthlight train`
# TEXTURES and MESHES name the folders of photos and OBJ models, SCENES and LIST the evaluation scenes. Both commands
# give way to everything else on the machine, and go on where they were stopped.
set -euo pipefail
runs=${RUNS:-../runs}
textures=${TEXTURES:-../shared/textures}
meshes=${MESHES:-../assets/sweethome3d}
scenes=${SCENES:-../shared/data/stereo}
list=${LIST:-../shared/data/public28.txt}
polite=(chrt --idle 0 nice -n 19)
export OMP_NUM_THREADS=1
# a session of its own is also a scheduling group of its own on Linux, in which --idle means nothing to the others
{ echo 19 > /proc/self/autogroup; } 2>/dev/null || true

pool() {
  local family=$1 folder=$2 seed=$3 count=$4
  shift 4
  "${polite[@]}" depthlight synth "$runs/pool/$folder" --count "$count" --seed "$seed" --families "$family=1" \
    --textures "$textures" "$@" --camera off --format jpg --jobs "${JOBS:-1}"
}

case ${1:-} in
pool)
  factor=${2:?how many times}
  pool meshes meshes 23 $((600 * factor)) --meshes "$meshes"
  pool rooms rooms 24 $((500 * factor)) --meshes "$meshes"
  pool photowarp photowarp 22 $((600 * factor))
  pool layered layered3 31 $((1500 * factor))
  ;;
train)
  shift
  start=(--resume)
  [ -f "$runs/main/config.json" ] || start=(cpu)
  data=
  newest=0.36 # of layered3, the family's third version; beside scenes of the second one, in layered, 0.22
  [ ! -d "$runs/pool/layered" ] || newest=0.22
  for part in layered:0.14 layered3:$newest meshes:0.24 photowarp:0.18 rooms:0.22; do
    [ ! -d "$runs/pool/${part%:*}" ] || data+="{kind='scenes',path='$runs/pool/${part%:*}',weight=${part#*:}},"
  done
  exec "${polite[@]}" depthlight train "${start[@]}" -o "$runs/main" --ranks "${RANKS:-2}" --set "data=[$data]" \
    --set "evaluate.folder='$scenes'" --set "evaluate.list='$list'" "$@"
  ;;
*)
  sed -n '2,7p' "$0"
  exit 2
  ;;
esac
