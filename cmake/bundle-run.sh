#!/usr/bin/env bash
# FlashRing on a host without Java:
#   run test [JUNIT ARGUMENTS]   GPU tests, or what the arguments select, such as: run test --include-tag=gpu
#   run COMMAND [ARGUMENTS]      the command line: info, verify, bench, plan, launch
# FLASHRING_JAVA_OPTS adds JVM options. Needs nothing but bash and coreutils; works from any folder.
set -euo pipefail
home=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cache=$home/cache
mkdir -p "$cache" 2>/dev/null || cache=$(mktemp -d)
java=("$home/runtime/bin/java" -Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dorg.bytedeco.javacpp.maxPhysicalBytes=0
    "-Dorg.bytedeco.javacpp.cachedir=$cache")
# shellcheck disable=SC2206 # several options in one variable
java+=(${FLASHRING_JAVA_OPTS:-} -cp "$home/tests:$home/lib/*")

if [[ ${1:-} == test ]]; then
    shift
    (($#)) || set -- --include-tag=gpu
    exec "${java[@]}" org.junit.platform.console.ConsoleLauncher execute "--scan-classpath=$home/tests" \
        --disable-banner --disable-ansi-colors --fail-if-no-tests --details=summary "$@"
fi
exec "${java[@]}" org.flashring.cli.Main "$@"
