#!/usr/bin/env bash
# Packs FlashRing for hosts without Java, Maven or network: bundle.sh JAVA_HOME TARGET   (called by ./flashring bundle)
# A jlinked runtime, the jars and natives, the tests and a script that runs them, in one archive.
set -euo pipefail
java_home=${1:?home of a JDK}
target=${2:?target folder of a finished build}
here=$(cd "$(dirname "$0")" && pwd)
most=$((60 * 1024 * 1024))

name=flashring-bundle-linux-x86_64
bundle=$target/$name
if [[ ! -x $java_home/bin/jlink ]]; then
  echo "flashring: '$java_home' has no jlink: a bundle is made by a whole JDK." >&2
  exit 1
fi
rm -rf "$bundle"
mkdir -p "$bundle/lib"

# java.desktop is for the charts of `train`, which the bundle leaves out together with PyTorch.
"$java_home/bin/jlink" --output "$bundle/runtime" --strip-debug --no-man-pages --no-header-files --compress=2 \
    --add-modules java.base,java.compiler,java.logging,java.management,java.xml,jdk.jfr,jdk.management,jdk.unsupported

for jar in "$target"/flashring-*.jar "$target"/lib/*.jar "$target"/bundle-lib/*.jar; do
    case ${jar##*/} in
        *-sources.jar | *-javadoc.jar | pytorch-* | openblas-*) ;;
        xchart-* | VectorGraphics2D-* | animated-gif-* | graphics2d-* | fontbox-* | pdfbox-* | commons-logging-*) ;;
        *) cp "$jar" "$bundle/lib/" ;;
    esac
done
cp -r "$target/test-classes" "$bundle/tests"
cp "$here/bundle-run.sh" "$bundle/run"
chmod +x "$bundle/run"

archive=$target/$name.tar.gz
tar -C "$target" --sort=name --owner=0 --group=0 --mtime='2026-01-01 UTC' -cf - "$name" | gzip -9n >"$archive"
bytes=$(stat -c %s "$archive")
((bytes <= most)) || { echo "flashring: the bundle has $bytes bytes, more than the $most it may have" >&2; exit 1; }
echo "$archive ($((bytes / 1024 / 1024)) MiB); on the other host: tar xzf ${archive##*/} && $name/run test"
