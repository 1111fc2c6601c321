#!/usr/bin/env bash
# An experiment of twelve runs through Slurm, whose tasks are stopped and killed: run.sh EXPERIMENTS
# BATCHES=N trains each run so long (600).
set -euo pipefail
program=$1
folder=$(mktemp -d)
# shellcheck source=tests/slurm/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

end() {
  scancel --me 2>/dev/null || true
  cluster_stop "$folder/cluster"
  rm -rf "$folder"
}
trap end EXIT

fail() {
  echo "slurm/run.sh: $*" >&2
  exit 1
}

out=$folder/out
sizes=(--seeds 2 --hidden 16 --batches "${BATCHES:-600}" --validate-every 50)
name=cuereward_noisy

# the runs of the tasks 0, 1, ... in the script that was submitted
runs() {
  sed -n '/^runs=($/,/^)$/p' "$out"/slurm/*.sh | sed '1d;$d'
}

# queue: RUN STATE of every task that is not over
queue() {
  local runs task state
  mapfile -t runs < <(runs)
  squeue --me --noheader --array --format='%K %T' | while read -r task state; do
    echo "${runs[task]} $state"
  done | sort
}

# look: calls status, and compares what it says with the queue and the results before and after it
declare -A done_before=()
looks=0
look() {
  local before after run rest done
  before=$(queue; cd "$out/runs" 2>/dev/null && ls -d -- */test.csv 2>/dev/null || true)
  "$program" status "$name" --out "$out" >"$folder/status" || fail "status: $(<"$folder/status")"
  after=$(queue; cd "$out/runs" 2>/dev/null && ls -d -- */test.csv 2>/dev/null || true)
  [[ $(grep -c -- '-seed' "$folder/status") == 12 ]] || fail "status shows not 12 runs"
  while read -r run rest; do
    case $rest in
      finished) [[ $after == *"$run/test.csv"* ]] || fail "$run has not finished: $rest" ;;
      "running on $(hostname -s), "* | "starting or ending on $(hostname -s), "*)
        [[ $before$after =~ $run\ (RUNNING|COMPLETING) ]] || fail "$run does not run: $rest, $before"
        [[ $before != *"$run/test.csv"* ]] || fail "$run has finished: $rest"
        ;;
      waiting*)
        [[ $before$after =~ $run\ (PENDING|COMPLETING) ]] || fail "$run does not wait: $rest, $before"
        ;;
      failed* | stopped*)  # no longer in the queue; stopped, if the last attempt has said nothing yet
        [[ ! ($before =~ "$run "[A-Z] && $after =~ "$run "[A-Z]) ]] || fail "$run has not failed: $rest"
        ;;
      *) fail "status says of $run: $rest" ;;
    esac
    if [[ $rest =~ ([0-9]+)\ of\ ([0-9]+)\ batches ]]; then
      done=${BASH_REMATCH[1]}
      ((done >= ${done_before[$run]:-0})) || fail "$run has lost batches: $rest"
      ((done <= BASH_REMATCH[2])) || fail "$run has more batches than there are: $rest"
      done_before[$run]=$done
    fi
  done < <(grep -- '-seed' "$folder/status")
  looks=$((looks + 1))
}

# a task that runs, as JOB_TASK; a signal to one that is about to end may be refused
running() {
  squeue --me --noheader --array --states=RUNNING --format='%F_%K' | shuf -n 1
}

"$program" run "$name" --out "$folder/alone" "${sizes[@]}" >"$folder/log"
cluster_start "$folder/cluster"

"$program" submit "$name" --out "$out" "${sizes[@]}" --print >"$folder/print"
grep -q '^#SBATCH --array=0-11$' "$folder/print" || fail "not printed: $(<"$folder/print")"
[[ ! -e $out && -z $(squeue --noheader) ]] || fail "--print has left something"

"$program" submit "$name" --out "$out" "${sizes[@]}" --cpus 1 --sbatch "--partition=test --time=60" |
  grep "with 12 tasks" || fail "not submitted"
[[ $(squeue --me --noheader --array | wc -l) == 12 ]] || fail "$(squeue)"

stopped=0 requeued=0 killed=0
for ((round = 0; $(queue | wc -l) > 0; ++round)); do
  ((round < 1200)) || fail "the runs do not end: $(<"$folder/status")"
  look
  if ((round % 4 == 0)); then
    "$program" submit "$name" --out "$out" "${sizes[@]}" >"$folder/log"
    [[ $(ls "$out"/slurm/*.sh | wc -l) == 1 ]] || fail "a second submit: $(<"$folder/log")"
    grep -q "nothing to submit" "$folder/log" || fail "$(<"$folder/log")"
  fi
  task=$(running)
  if [[ -n $task ]]; then
    case $((round % 3)) in
      0) if ((stopped < 8)) && timeout 5 scancel --signal=TERM --batch "$task" 2>/dev/null; then
        stopped=$((stopped + 1))
      fi ;;
      1) if ((requeued < 4)) && timeout 5 scontrol requeue "$task" 2>/dev/null; then
        requeued=$((requeued + 1))
      fi ;;
      2) if ((killed < 4)) && timeout 5 scancel --signal=KILL --full "$task" 2>/dev/null; then
        killed=$((killed + 1))
        # Slurm has the task for failed, and so has status, until somebody wants it again.
        while [[ -n $(squeue --noheader --array --jobs="$task" 2>/dev/null) ]]; do sleep 0.1; done
        look
        run=$(runs | sed -n "$((${task#*_} + 1))p")
        grep -Eq "^$run +(failed after [0-9]+ of |stopped, |finished)" "$folder/status" ||
          fail "$run was killed, and status says: $(grep "$run" "$folder/status")"
        scontrol requeue "$task" || fail "not requeued: $task"
      fi ;;
    esac
  fi
  sleep 0.3
done
look
grep '12 finished' "$folder/status" || fail "$(<"$folder/status")"
echo "stopped $stopped times, requeued $requeued times, killed $killed times; $looks looks at the status"
((stopped > 0 && requeued > 0 && killed > 0)) || fail "the runs were too short to be disturbed"
grep -h "stopped by SIGTERM" "$out"/slurm/*.log | sort | uniq -c

"$program" submit "$name" --out "$out" "${sizes[@]}" >"$folder/log"
grep -q "nothing to submit" "$folder/log" || fail "submitted again what has finished"
"$program" run "$name" --out "$out" "${sizes[@]}" >"$folder/log"
grep -q "12 of them had already finished" "$folder/log" || fail "run again what has finished"

# The same files with the same bits, but for times.
files() {
  (cd "$1/runs" && find . -type f ! -path '*/.holder/*' | sort)
}
diff <(files "$folder/alone") <(files "$out") || fail "other files"
for file in $(files "$out"); do
  case $file in
    */checkpoint.safetensors) ;;
    */progress.csv)
      diff <(cut -d, -f1-3,5- "$folder/alone/runs/$file") <(cut -d, -f1-3,5- "$out/runs/$file") ||
        fail "$file differs"
      ;;
    *) cmp "$folder/alone/runs/$file" "$out/runs/$file" || fail "$file differs" ;;
  esac
done
cmp "$folder/alone/$name/experiment.json" "$out/$name/experiment.json" || fail "the lists differ"
echo "the same bits as without Slurm"
