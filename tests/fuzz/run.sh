#!/usr/bin/env bash
# Fuzzes readers of files for SECONDS each and prints a line for each: run.sh BUILD SECONDS [READER ...]
#
# BUILD is the folder of the preset fuzz. BUILD/corpus/READER grows from run to run; what it begins with
# are the seeds of the reader and the inputs in tests/data/fuzz/READER. A finding ends its reader's run,
# lies in BUILD/findings/READER and makes the script fail; put into tests/data/fuzz/READER it is a test.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
seconds=$2
readers=("${@:3}")
if ((!${#readers[@]})); then
  for program in "$build"/tests/fuzz/fuzz_*; do readers+=("${program##*/fuzz_}"); done
fi

# Readers of several files work in a folder, best in memory.
[[ ! -w /dev/shm ]] || export TMPDIR=/dev/shm
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# The last number after WORD in a log.
last() { grep -o "$1 *[0-9]*" "$2" | tail -n 1 | grep -o '[0-9]*$' || echo 0; }

failed=0
printf '%-14s %12s %8s %9s %8s %9s\n' reader executions edges features corpus findings
for reader in "${readers[@]}"; do
  program=$build/tests/fuzz/fuzz_$reader corpus=$build/corpus/$reader seeds=$build/seeds/$reader
  findings=$build/findings/$reader kept=$root/tests/data/fuzz/$reader log=$build/$reader.log
  mkdir -p "$corpus" "$seeds" "$findings"
  PLASTIC_FUZZ_SEEDS=$seeds "$program"
  options=(-max_len=4096)
  case $reader in
    safetensors)
      cp "$root"/tests/data/rnn_none.safetensors "$seeds"
      options=(-max_len=16384)
      ;;
    checkpoint | image_model | model | state | state_dict) options=(-max_len=16384) ;;
    cifar100) options=(-max_len=10000) ;;
  esac
  case $reader in
    checkpoint | image_model | model | safetensors | state | state_dict)
      options+=("-dict=$root/tests/fuzz/tensor_file.dict")
      ;;
    *) [[ ! -f $root/tests/fuzz/$reader.dict ]] || options+=("-dict=$root/tests/fuzz/$reader.dict") ;;
  esac
  folders=("$corpus" "$seeds")
  [[ ! -d $kept ]] || folders+=("$kept")
  status=ok
  "$program" "${options[@]}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -malloc_limit_mb=256 -artifact_prefix="$findings/" -print_final_stats=1 "${folders[@]}" \
    >"$log" 2>&1 || status=failed
  executions=$(last stat::number_of_executed_units: "$log")
  # Where the run has ended with a finding there are no final statistics.
  [[ $executions != 0 ]] || executions=$(grep -o '^#[0-9]*' "$log" | tail -n 1 | tr -d '#' || echo 0)
  printf '%-14s %12s %8s %9s %8s %9s\n' "$reader" "$executions" "$(last cov: "$log")" \
    "$(last ft: "$log")" "$(find "$corpus" -type f | wc -l)" "$([[ $status == ok ]] && echo 0 || echo 1)"
  if [[ $status != ok ]]; then
    failed=1
    grep -E 'ERROR|SUMMARY|runtime error|terminate|what\(\)' "$log" | head -n 5 || tail -n 5 "$log"
    echo "  the whole log: $log; the input: $(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)"
  fi
done
exit $failed
