#!/usr/bin/env bash
# Kills and stops a training run again and again, also on a full disk: soak.sh EXAMPLES [MINUTES]
#
# EXAMPLES is the folder of the built example programs. The program `train` runs once undisturbed.
# Then, until MINUTES (2) are over, it runs round after round, each in a new folder: it is killed by signals
# at random moments, stopped and continued, given a full disk, and started again every time until it is
# done. Each round must end with the bits of the undisturbed run (best weights, losses, what the program
# prints), and the resident memory of no process may grow by more than 4 MiB once it is two seconds old.
#
# As root, the script makes a file system of 16 MiB for the rounds and fills it now and then; otherwise it
# starts processes now and then with a limit on the size of files (ulimit -f). SIGINT is left out: it ends
# the run in good order, with one more validation. BATCHES=N trains N batches (600); SEED=N repeats the
# choices of an earlier soak.
set -euo pipefail
train=$(cd "$1" && pwd)/train
minutes=${2:-2}
batches=${BATCHES:-600}
RANDOM=${SEED:-$$}
echo "seed ${SEED:-$$}, $batches batches a run"
ulimit -c 0

work=$(mktemp -d)
child=
cleanup() {
  [[ -z $child ]] || kill -9 "$child" 2>/dev/null || true
  mountpoint -q "$work/disk" && umount "$work/disk"
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "soak: $*" >&2
  exit 1
}

mkdir "$work/quiet" "$work/disk"
small_disk=no
if ((!EUID)) && mount -t tmpfs -o size=16m tmpfs "$work/disk" 2>/dev/null; then small_disk=yes; fi
echo "a small disk of its own: $small_disk"

now() { date +%s%3N; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null; }
pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# Without the progress lines, whose times differ.
end_of() { grep '^stopped after' "$1"; }
losses_of() { cut -d, -f1-3 "$1/train.csv"; }

begin=$(now)
(cd "$work/quiet" && "$train" "$batches" >"$work/quiet.out")
quiet=$(($(now) - begin))
echo "undisturbed: $quiet ms; $(end_of "$work/quiet.out")"

least=0 most=0 growth=0
# Waits for so many ms at most, or the end of the process, and looks at its memory meanwhile.
watch() {
  local until=$(($(now) + $1)) size
  while (($(now) < until)) && kill -0 "$child" 2>/dev/null; do
    pause 100
    (($(now) - started >= 2000)) || continue
    size=$(resident "$child") || true
    [[ -n $size ]] || continue
    ((first)) || first=$size
    ((least && least <= size)) || least=$size
    ((most >= size)) || most=$size
    ((growth >= size - first)) || growth=$((size - first))
  done
}

declare -A count=()
note() { count[$1]=$((${count[$1]:-0} + 1)); }
signals=(KILL KILL KILL TERM HUP QUIT ABRT SEGV)
stop_at=$(($(now) + minutes * 60000)) rounds=0
while (($(now) < stop_at)); do
  folder=$work/disk/run
  rm -rf "$folder"
  mkdir "$folder"
  troubles=0
  while :; do
    limit=unlimited
    rm -f "$work/disk/filler"
    trouble=$((RANDOM % 10))
    # Sooner or later it may end.
    ((troubles < 15)) || trouble=none
    if [[ $trouble == [01] ]]; then
      note "full disk"
      if [[ $small_disk == yes ]]; then
        head -c 16M /dev/zero >"$work/disk/filler" 2>/dev/null || true
      else
        limit=8
      fi
    fi
    (cd "$folder" && ulimit -f "$limit" && exec "$train" "$batches" >"$work/out" 2>"$work/err") &
    child=$! started=$(now) first=0
    if [[ $trouble == none ]]; then
      watch 600000
    elif [[ $trouble == [01] ]]; then
      watch $((RANDOM % (quiet / 2 + 500)))
      kill -KILL "$child" 2>/dev/null || true
    else
      watch $((RANDOM % (quiet / 2 + 500)))
      if [[ $trouble == [234] ]]; then
        kill -STOP "$child" 2>/dev/null || true
        pause $((RANDOM % 500))
        kill -CONT "$child" 2>/dev/null || true
        note "stop and continue"
        watch $((RANDOM % (quiet / 2 + 500)))
      fi
      signal=${signals[RANDOM % ${#signals[@]}]}
      if kill "-$signal" "$child" 2>/dev/null; then note "SIG$signal"; fi
    fi
    status=0
    wait "$child" 2>/dev/null || status=$?
    child=
    ((status)) || break
    troubles=$((troubles + 1))
    # Apart from a signal, only a full disk may end it, and then the program must say so.
    if ((status < 128)); then
      if [[ $trouble != [01] ]] || ! grep -q 'cannot write' "$work/err"; then
        fail "status $status: $(cat "$work/err")"
      fi
      note "refused to write"
    fi
    [[ $trouble != none ]] || fail "it was left alone and ended with status $status"
  done
  rm -f "$work/disk/filler"
  [[ $(end_of "$work/out") == "$(end_of "$work/quiet.out")" ]] || fail "another end: $(end_of "$work/out")"
  cmp "$folder/train.safetensors" "$work/quiet/train.safetensors" || fail "other weights"
  [[ $(losses_of "$folder") == "$(losses_of "$work/quiet")" ]] || fail "other losses"
  rounds=$((rounds + 1))
  left=$(find "$folder" -name '.plastic-*.tmp' | wc -l)
  echo "round $rounds: $troubles troubles, the same bits; half-written files left by kills: $left"
done
((growth <= 4096)) || fail "resident memory grew by $growth KiB"
for what in "${!count[@]}"; do echo "$what: ${count[$what]}"; done | sort
echo "$rounds rounds, all with the same bits; resident memory $least to $most KiB, growth in a process at most $growth KiB"
