#!/usr/bin/env bash
# Installs the library from BUILD and builds programs against it: build_all.sh BUILD FOLDER [few]
# Both compilers, -O0 and -O3, with and without OpenMP; by add_subdirectory and FetchContent; and by
# pkg-config alone. `few` leaves out what differs in optimisation and compiler only.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$1 out=$2 few=${3:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -rf "$out"/*
cmake --install "$build" --prefix "$out/installed" >"$out/install.log"

# consumer NAME [CMAKE ARGUMENTS]
consumer() {
  local name=$1
  shift
  echo "$name"
  if ! {
    cmake -S "$here" -B "$out/$name" -G Ninja "$@" && cmake --build "$out/$name"
  } >"$out/$name.log" 2>&1; then
    cat "$out/$name.log"
    exit 1
  fi
  (cd "$out/$name" && ./consumer)
  local also
  for also in consumer_io consumer_images consumer_mpi consumer_compiled; do
    if [[ -x $out/$name/$also ]]; then (cd "$out/$name" && "./$also"); fi
  done
  # plastic::compiled is compiled once for all that link it.
  if [[ -x $out/$name/consumer_compiled ]]; then
    local scalar times
    for scalar in float double; do
      times=$(ninja -C "$out/$name" -t commands consumer_compiled consumer_compiled_again |
        grep -c -- "-c .*compiled_$scalar\.cpp$" || true)
      [[ $times == 1 ]] || { echo "compiled_$scalar.cpp is compiled $times times" >&2; exit 1; }
    done
  fi
}

# refused COMPONENTS "EXPECTED TEXT" [CMAKE ARGUMENTS]: find_package names what is missing.
refused() {
  local components=$1 expected=$2 said
  shift 2
  echo "without: $expected"
  if said=$(cmake -S "$here" -B "$out/refused" -G Ninja "$installed" "-DCOMPONENTS=$components" "$@" 2>&1); then
    echo "find_package finds components $components with $*" >&2
    exit 1
  fi
  # CMake breaks lines.
  if [[ $(tr -s ' \n' ' ' <<<"$said") != *"$expected"* ]]; then
    echo "find_package does not say \"$expected\": $said" >&2
    exit 1
  fi
  rm -r "$out/refused"
}

installed=-DCMAKE_PREFIX_PATH=$out/installed
no_openmp=-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON
if [[ -n $few ]]; then
  consumer g++_O0_without_openmp "$installed" -DCMAKE_CXX_COMPILER=g++ -DCMAKE_CXX_FLAGS=-O0 $no_openmp \
    -DWITH_COMPILED=ON
else
  for compiler in g++ clang++; do
    for level in O0 O3; do
      flags=(-DCMAKE_CXX_COMPILER=$compiler -DCMAKE_CXX_FLAGS=-$level)
      consumer "${compiler}_${level}_with_openmp" "$installed" "${flags[@]}"
      consumer "${compiler}_${level}_without_openmp" "$installed" "${flags[@]}" $no_openmp
    done
  done
  consumer by_fetch_content "-DPLASTIC_SOURCE=$source" -DPLASTIC_FETCH=ON -DWITH_COMPILED=ON
fi
no=-DCMAKE_DISABLE_FIND_PACKAGE_
refused io "component io needs what was not found: nlohmann_json 3" ${no}nlohmann_json=ON
refused image_files "component image_files needs what was not found: PNG 1.6 (Debian: libpng-dev)" ${no}PNG=ON
refused image_files "JPEG (Debian: libjpeg-dev)" ${no}JPEG=ON
refused mpi "component mpi needs what was not found: MPI 3 for C++" ${no}MPI=ON
refused pictures "there is no component pictures, only io, image_files and mpi"
consumer by_add_subdirectory "-DPLASTIC_SOURCE=$source"

echo by_pkg_config
export PKG_CONFIG_PATH=$out/installed/share/pkgconfig
# shellcheck disable=SC2046 # flags are words
g++ -std=c++20 -O0 $(pkg-config --cflags --libs plastic) "$here"/main.cpp "$here"/other.cpp -o "$out/by_pkg_config"
"$out/by_pkg_config"

echo installed_example
# shellcheck disable=SC2046 # flags are words
g++ -std=c++20 -fsyntax-only $(pkg-config --cflags plastic) "$out"/installed/share/plastic/examples/own_loop.cpp
