#!/usr/bin/env bash
# Removes a build folder that CMake made for sources elsewhere, as in a checkout that was copied or moved with its
# build: its files name the old place, and CMake refuses them.   (called by build.sh, sanitize.sh)
# forget_moved.sh BUILD_FOLDER SOURCE_FOLDER
set -euo pipefail
build=${1:?build folder}
source=${2:?source folder}
cache=$build/CMakeCache.txt
[[ -e $cache ]] || exit 0
entry() { sed -n "s/^CMAKE_$1:INTERNAL=//p" "$cache"; }
[[ $(entry HOME_DIRECTORY) -ef $source && $(entry CACHEFILE_DIR) -ef $build ]] || rm -rf "$build"
