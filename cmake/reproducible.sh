#!/usr/bin/env bash
# Builds the committed sources twice, in two folders, and compares the jars: reproducible.sh [MAVEN ARGUMENTS]
# Says which jars have the same bytes, and of the others which entries differ; fails if any does.
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for build in first second; do
    mkdir "$work/$build"
    git -C "$home" archive HEAD | tar -x -C "$work/$build"
    (cd "$work/$build" && mvn -q -B -ntp install -DskipTests -Dmaven.install.skip=true "$@")
done

status=0
for jar in "$work"/first/target/flashring-*.jar; do
    name=${jar##*/}
    if cmp -s "$jar" "$work/second/target/$name"; then
        echo "the same: $name"
        continue
    fi
    status=1
    echo "differs: $name"
    for build in first second; do
        mkdir -p "$work/$build-$name"
        (cd "$work/$build-$name" && unzip -q "$work/$build/target/$name")
    done
    diff -rq "$work/first-$name" "$work/second-$name" | sed 's/^/  /' || true
done
exit $status
