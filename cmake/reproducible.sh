#!/usr/bin/env bash
# Builds the committed sources twice, in one folder, and compares the jars: reproducible.sh [MAVEN ARGUMENTS]
# Says which jars have the same bytes, and of the others which entries differ, in what they hold or in their order,
# times and permissions; fails if any does, but for JavaCPP's glue: it has its functions in the order in which a JVM
# lists methods, which is another on each run. Of it the names have to be the same. In one folder, as nvcc puts a hash
# of the folder into the names of kernels.
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
commit=$(git -C "$home" rev-parse HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for build in first second; do
    mkdir "$work/$build" "$work/sources"
    git -C "$home" archive "$commit" | tar -x -C "$work/sources"
    (cd "$work/sources" && mvn -q -B -ntp install -DskipTests -Dmaven.install.skip=true \
        -Dflashring.nativeTargets=flashring "$@")
    mv "$work"/sources/target/flashring-*.jar "$work/$build"
    rm -r "$work/sources"
done

names() { nm -D --defined-only "$1" | cut -d' ' -f3 | sort; }
same() { # entries first and second, which differ
    [[ $1 == */libjni*.so ]] && cmp -s <(names "$1") <(names "$2")
}
listing() { # all entries of a jar in their order, but for sizes
    zipinfo -sT "$1" | awk '/^[-dl?]/ { $4 = ""; print }'
}

status=0
for jar in "$work"/first/*.jar; do
    name=${jar##*/}
    if cmp -s "$jar" "$work/second/$name"; then
        echo "the same: $name"
        continue
    fi
    for build in first second; do
        mkdir -p "$work/$build-$name"
        (cd "$work/$build-$name" && unzip -q "$work/$build/$name")
    done
    differing=()
    glue=0
    while read -r line; do
        read -r _ one _ other _ <<<"$line"
        if [[ $line == Files* ]] && same "$one" "$other"; then
            glue=$((glue + 1))
            continue
        fi
        differing+=("$line")
    done < <(diff -rq "$work/first-$name" "$work/second-$name")
    while read -r line; do
        differing+=("$line")
    done < <(diff <(listing "$work/first/$name") <(listing "$work/second/$name") | grep '^[<>]')
    if ((${#differing[@]} == 0 && glue > 0)); then
        echo "the same but for JavaCPP's glue: $name"
    else
        status=1
        echo "differs: $name"
        printf '  %s\n' "${differing[@]:-bytes that belong to no entry, or to how entries are packed}"
    fi
done
exit $status
