#!/usr/bin/env bash
# Builds tests of the core for other processors, systems and standard libraries, runs them, with an emulator
# where one is needed, and prints one table:
#   run.sh [--packages] [TARGET...]
# --packages only prints the Debian packages that the targets need. TESTS="tape/tape cells/state" takes these
# files of tests/ (tape/tape_test.cpp, ...) instead of the usual ones. Fails unless all tests of all targets pass.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/build/cross
all=(aarch64 armhf riscv64 x86-32 libc++ wasm windows)
usual=(core/settings core/random kernels/kernels cells/state optim/optimizers optim/schedule tasks/tasks
  train/callbacks train/losses)
read -ra tests <<<"${TESTS:-${usual[*]}}"

# describe TARGET: packages, compiler, flags, linking, suffix of programs, emulator, tests to leave out
describe() {
  packages=(cmake ninja-build libeigen3-dev catch2 nlohmann-json3-dev)
  flags=-DPLASTIC_TEST_STATIC linking=-static suffix='' emulator=() without=() system=Linux
  case $1 in
    aarch64)
      packages+=(g++-aarch64-linux-gnu qemu-user)
      compiler=aarch64-linux-gnu-g++ emulator=(qemu-aarch64)
      ;;
    armhf)
      packages+=(g++-arm-linux-gnueabihf qemu-user)
      # Without NEON: there Eigen divides floats by an estimate that is right to five digits only.
      compiler=arm-linux-gnueabihf-g++ emulator=(qemu-arm) flags+=' -Wno-psabi'
      ;;
    riscv64)
      packages+=(g++-riscv64-linux-gnu qemu-user)
      compiler=riscv64-linux-gnu-g++ emulator=(qemu-riscv64)
      ;;
    x86-32)
      packages+=(g++-i686-linux-gnu)
      # The older floating-point unit keeps more bits than a double has, now here, now there.
      compiler=i686-linux-gnu-g++ flags+=' -msse2 -mfpmath=sse'
      if [[ $(uname -m) != x86_64 ]]; then packages+=(qemu-user) emulator=(qemu-i386); fi
      ;;
    libc++)
      packages+=(clang libc++-dev libc++abi-dev)
      compiler=clang++ flags=-stdlib=libc++ linking=-stdlib=libc++
      ;;
    wasm)
      packages+=(emscripten nodejs)
      compiler=em++ system=Generic suffix=.js emulator=(node) flags=-fexceptions
      linking='-fexceptions -sALLOW_MEMORY_GROWTH -sNODERAWFS -sEXIT_RUNTIME -sWASM_ASYNC_COMPILATION=0'
      without=('~[threads]' '~[limits]')
      ;;
    windows)
      packages+=(g++-mingw-w64-x86-64-posix wine wine64)
      compiler=x86_64-w64-mingw32-g++-posix system=Windows suffix=.exe emulator=(wine) flags=-Wa,-mbig-obj
      ;;
    *)
      echo "cross: no such target: $1 (there are ${all[*]})" >&2
      exit 1
      ;;
  esac
}

# compile_and_run TARGET: the test program's last lines are in its run.log
compile_and_run() {
  local folder=$out/$1
  cmake -S "$root/tests/cross" -B "$folder" -G Ninja -DCMAKE_SYSTEM_NAME=$system \
    -DCMAKE_CXX_COMPILER=$compiler -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_EXE_LINKER_FLAGS="$linking" \
    -DPLASTIC_CROSS_SUFFIX=$suffix -DPLASTIC_CROSS_INCLUDE="$out/include" \
    -DPLASTIC_CROSS_TESTS="$(IFS=';' && echo "${tests[*]}")" >"$folder.log" 2>&1 || return
  cmake --build "$folder" -j "${JOBS:-$(nproc)}" >>"$folder.log" 2>&1 || return
  (cd "$folder" && "${emulator[@]}" "./cross_tests$suffix" --use-colour no "${without[@]}") >"$folder.run.log" 2>&1
}

if [[ ${1:-} == --packages ]]; then
  shift
  (($#)) || set -- "${all[@]}"
  for target in "$@"; do
    describe "$target"
    printf '%s\n' "${packages[@]}"
  done | sort -u
  exit
fi
(($#)) || set -- "${all[@]}"
for target in "$@"; do describe "$target"; done

if [[ ! -f /usr/include/catch2/catch.hpp ]]; then
  echo "cross: needs version 2 of Catch2, which is one header; version 3 would have to be built for each target" >&2
  exit 1
fi
mkdir -p "$out/include"
ln -sfn /usr/include/eigen3/Eigen "$out/include/Eigen"
for library in catch2 nlohmann; do ln -sfn "/usr/include/$library" "$out/include/$library"; done
export WINEPREFIX=$out/wine WINEDEBUG=-all

failed=()
rows=()
for target in "$@"; do
  describe "$target"
  echo "$target" >&2
  begin=$SECONDS
  rm -f "$out/$target.run.log"
  result=
  if compile_and_run "$target"; then
    result=$(sed -n 's/^All tests passed (.* in \([0-9]*\) test cases.*/\1/p' "$out/$target.run.log")
  fi
  if [[ -z $result ]]; then
    failed+=("$target")
    tail -n 40 "$(ls "$out/$target.run.log" 2>/dev/null || echo "$out/$target.log")" >&2
  fi
  rows+=("$(printf '%-8s %-54s %6s %8s' "$target" "$($compiler --version | sed -n 1p | cut -c -54)" \
    "${result:-failed}" "$((SECONDS - begin))")")
done
printf '%-8s %-54s %6s %8s\n' target compiler passed seconds
printf '%s\n' "${rows[@]}"
((${#failed[@]} == 0))
