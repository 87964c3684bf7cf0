#!/usr/bin/env bash
# FlashRing on a host without Java:
#   run test [JUNIT ARGUMENTS]   GPU tests, or what the arguments select, such as: run test --include-tag=gpu
#   run COMMAND [ARGUMENTS]      the command line: info, verify, bench, plan, launch
# FLASHRING_JAVA_OPTS adds JVM options. Needs nothing but bash and coreutils; works from any folder.
set -euo pipefail
home=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
if [[ $home == *:* ]]; then
    echo "flashring: '$home' holds a colon, and no Java starts from such a folder: unpack the archive elsewhere." >&2
    exit 1
fi

# Java knows names of files in the locale's character set alone, and that of C is ASCII.
printf -v probe '\u00e9'
if ((${#probe} > 1)); then export LC_ALL=C.UTF-8 2>/dev/null; fi

java=("$home/runtime/bin/java" -Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8
  -Dorg.bytedeco.javacpp.maxPhysicalBytes=0)
# Natives are unpacked into the bundle or, where it cannot be written to, into JavaCPP's cache folder of the user.
if mkdir -p "$home/cache" 2>/dev/null && [[ -w $home/cache ]]; then
  java+=("-Dorg.bytedeco.javacpp.cachedir=$home/cache")
fi
read -rd '' -a more <<<"${FLASHRING_JAVA_OPTS:-}" || true # several options in one variable
java+=("${more[@]}" -cp "$home/tests:$home/lib/*")

if [[ ${1:-} == test ]]; then
    shift
    (($#)) || set -- --include-tag=gpu
    exec "${java[@]}" org.junit.platform.console.ConsoleLauncher execute "--scan-classpath=$home/tests" \
        --disable-banner --disable-ansi-colors --fail-if-no-tests --details=summary "$@"
fi
exec "${java[@]}" org.flashring.cli.Main "$@"
