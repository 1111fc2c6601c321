#!/usr/bin/env bash
# One training run on several processes: run.sh same_bits|throw|kill|programs|images MPIRUN PROGRAM...
# KILLS=N kills so many times (6).
set -euo pipefail
what=$1 mpirun=$2
shift 2

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# ranks N PROGRAM ARGUMENTS
options=()
version=$("$mpirun" --version 2>/dev/null || true)
if [[ $version == *"Open MPI"* || $version == *OpenRTE* ]]; then  # as mpirun, as mpiexec
  options=(--allow-run-as-root --oversubscribe)
fi
ranks() {
  local count=$1
  shift
  "$mpirun" "${options[@]}" -n "$count" "$@"
}

fail() {
  echo "mpi/run.sh: $*" >&2
  exit 1
}

same() {
  cmp "$1" "$2" || fail "$3"
}

same_bits() {
  local train=$1 rule cell how
  for rule in hebbian gradient; do
    for cell in rnn lstm; do
      "$train" "$folder/alone" "$rule" "$cell" 1 50
      "$train" "$folder/two_threads" "$rule" "$cell" 2 50
      same "$folder/alone" "$folder/two_threads" "$rule $cell: two threads differ"
      for how in "1 2" "2 1" "2 2" "4 1" "8 1" "16 1"; do
        ranks "${how% *}" "$train" "$folder/divided" "$rule" "$cell" "${how#* }" 50
        same "$folder/alone" "$folder/divided" "$rule $cell: $how (ranks, threads) differ from one process"
        echo "$rule $cell: $how (ranks, threads) as one process"
      done
    done
  done
}

# A rank that throws: its message, a status that is not 0, and no wait.
throw() {
  local train=$1 where status
  for where in "0 0" "2 17" "3 49"; do
    status=0
    # shellcheck disable=SC2086
    (ranks 4 timeout 60 "$train" "$folder/out" hebbian rnn 1 50 throw $where) >"$folder/log" 2>&1 &
    wait_for $! 30 || fail "rank ${where% *} has thrown and the others wait"
    wait $! || status=$?
    [[ $status != 0 ]] || fail "rank ${where% *} has thrown and the status is 0"
    grep -q "train: rank ${where% *} of 4: this rank refuses batch ${where#* }" "$folder/log" ||
      fail "the message of rank ${where% *} is missing: $(cat "$folder/log")"
    [[ ! -e $folder/out ]] || fail "a result was written"
    echo "rank ${where% *} throws at batch ${where#* }: status $status"
  done
}

# wait_for PID SECONDS: until the process has ended
wait_for() {
  local tenths
  for ((tenths = 0; tenths < 10 * $2; ++tenths)); do
    # A child that nobody has waited for yet is a zombie.
    [[ $(ps -o stat= -p "$1" 2>/dev/null || true) =~ ^[^Z] ]] || return 0
    sleep 0.1
  done
  return 1
}

# Kills a rank or mpirun again and again, each time with another number of ranks.
kill_and_go_on() {
  local train=$1 kills=${KILLS:-6} arguments killed=0 counts=(2 4 1 8) launcher members victim k
  local count
  # More than what is done before the last kill.
  arguments=(gradient lstm 1 $((20 * kills + 40)) checkpoint "$folder/checkpoint")
  "$train" "$folder/alone" "${arguments[@]:0:4}"
  while ((killed < kills)); do
    count=${counts[killed % 4]}
    "$mpirun" "${options[@]}" -n "$count" "$train" "$folder/killed" "${arguments[@]}" slow 100 \
      >"$folder/log" 2>&1 &
    launcher=$!
    sleep "0.$((RANDOM % 9))"
    sleep 1
    mapfile -t members < <(pgrep -P "$launcher")
    victim=$launcher
    if ((killed % 3 != 2 && ${#members[@]})); then
      victim=${members[RANDOM % ${#members[@]}]}
    fi
    kill -9 "$victim" || fail "the run had ended before it was killed: $(cat "$folder/log")"
    for k in "$launcher" "${members[@]}"; do
      wait_for "$k" 30 || fail "$k of $count ranks has not ended"
    done
    wait "$launcher" && fail "a killed run has status 0"
    [[ ! -e $folder/killed ]] || fail "the killed run has written a result"
    killed=$((killed + 1))
    echo "kill $killed of $kills: $([[ $victim == "$launcher" ]] && echo mpirun || echo "a rank"), $count ranks"
  done
  ranks 4 "$train" "$folder/killed" "${arguments[@]}"
  same "$folder/alone" "$folder/killed" "after $kills kills the bits differ"
}

# same_files FOLDER FOLDER: the files of runs, but for the time that they took
same_files() {
  local name names
  names=$(cd "$1" && find . -type f ! -name 'progress.csv' ! -name '*checkpoint*' ! -name '*.svg' ! -path '*/.holder/*')
  [[ $names == $(cd "$2" && find . -type f ! -name 'progress.csv' ! -name '*checkpoint*' ! -name '*.svg' ! -path '*/.holder/*') ]] ||
    fail "other files: $(ls -R "$1" "$2")"
  grep -q safetensors <<<"$names" || fail "no network was written"
  for name in $names; do same "$1/$name" "$2/$name" "$name differs"; done
}

programs() {
  local cue_reward=$1 experiments=$2 short
  short=(--hidden 8 --batches 20 --validate-every 10 --threads 1)
  "$cue_reward" "${short[@]}" --out "$folder/alone" >"$folder/log"
  ranks 4 "$cue_reward" "${short[@]}" --out "$folder/divided" >"$folder/log"
  same_files "$folder/alone" "$folder/divided"
  [[ $(grep -c "Best after" "$folder/log") == 1 ]] || fail "cue_reward says more than once how it went"
  short=(run cuereward_demo --seeds 1 --batches 4 --validate-every 2 --hidden 4 --cells rnn)
  "$experiments" "${short[@]}" --out "$folder/runs" >"$folder/log"
  ranks 2 "$experiments" "${short[@]}" --out "$folder/divided_runs" >"$folder/log"
  same_files "$folder/runs" "$folder/divided_runs"
  ranks 2 "$experiments" "${short[@]}" --out "$folder/divided_runs" | grep -q "had already finished"
  # What fails on one rank ends all.
  echo x >"$folder/file"
  if ranks 2 timeout 60 "$experiments" "${short[@]}" --out "$folder/file/no" >"$folder/log" 2>&1; then
    fail "experiments has written into a file"
  fi
  grep -q "rank 0 of 2" "$folder/log" || fail "experiments does not say which rank failed"
}

images() {
  local program=$1 short
  short=(--pretrain-batches 2 --batches 3 --validate-every 2 --hidden 8 --way 2 --threads 1)
  for joint in "" --train-encoder; do
    "$program" "${short[@]}" $joint --out "$folder/alone$joint" >"$folder/log"
    ranks 2 "$program" "${short[@]}" $joint --out "$folder/divided$joint" >"$folder/log"
    same_files "$folder/alone$joint" "$folder/divided$joint"
  done
}

case $what in
  same_bits) same_bits "$@" ;;
  throw) throw "$@" ;;
  kill) kill_and_go_on "$@" ;;
  programs) programs "$@" ;;
  images) images "$@" ;;
  *) fail "no such test: $what" ;;
esac
