#!/usr/bin/env bash
# What including the library costs: seconds of processor time (median of five) to compile programs that
# step and train a cell, and how many times those of Eigen/Core with one product.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
eigen=$(pkg-config --cflags-only-I eigen3 | sed 's/-I/-isystem /')

product='#include <Eigen/Core>
int main() { Eigen::MatrixXf a = Eigen::MatrixXf::Random(8, 8), b = a * a; return b(0, 0) > 0; }'
step='#include "plastic/plastic.hpp"
int main() {
  plastic::PlasticRNN<plastic::Hebbian, float> net({.inputs = 16, .hidden = 64});
  auto state = net.initial_state(1);
  return net.step(state, plastic::Matrix<float>::Random(16, 1)).output(0, 0) > 0;
}'

# seconds PROGRAM COMPILER FLAGS: the program's text, or a file's
seconds() {
  local program=$1 i
  shift
  for i in 1 2 3 4 5; do
    { TIMEFORMAT=%U; time printf '%s\n' "$program" |
      # shellcheck disable=SC2086 # flags are words
      "$@" -std=c++20 $eigen -Iinclude -x c++ -c -o /dev/null -; } 2>&1
  done | sort -n | sed -n 3p
}

row() {
  awk -v name="$1" -v a="$2" -v b="$3" 'BEGIN { printf "  %-44s %6.2f s  %5.1f times\n", name, b, b / a }'
}

for compiler in g++ clang++; do
  for level in -O0 -O2; do
    echo "$compiler $level"
    base=$(seconds "$product" "$compiler" "$level")
    row "Eigen/Core, one product" "$base" "$base"
    row "plastic.hpp, nothing used" "$base" "$(seconds '#include "plastic/plastic.hpp"' "$compiler" "$level")"
    row "plastic.hpp, one cell stepped" "$base" "$(seconds "$step" "$compiler" "$level")"
    row "the same with plastic::compiled" "$base" \
      "$(seconds "$step" "$compiler" "$level" -DPLASTIC_COMPILED)"
    ten_lines=$(cat examples/ten_lines.cpp)
    row "ten lines: one cell trained and stepped" "$base" "$(seconds "$ten_lines" "$compiler" "$level")"
    row "the same with plastic::compiled" "$base" \
      "$(seconds "$ten_lines" "$compiler" "$level" -DPLASTIC_COMPILED)"
    row "compiled_float.cpp, once" "$base" "$(seconds "$(cat src/compiled_float.cpp)" "$compiler" "$level")"
  done
done
