#!/usr/bin/env bash
# Host time of a call through the adapters of PyTorch and DJL, and of what stands beside it:
# adapter_calls.sh [OPTIONS OF JMH]
# After mvn package, or anything that compiles the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
mvn -B -ntp -q dependency:build-classpath -Dmdep.outputFile=target/bench.classpath -Dmdep.includeScope=test
path="target/test-classes:target/classes:$(<target/bench.classpath)"
mkdir -p target/jmh
javac -nowarn -processor org.openjdk.jmh.generators.BenchmarkProcessor -d target/jmh -cp "$path" \
  tests/java/org/flashring/{djl,pytorch}/CallBench.java
export FLASHRING_THREADS=1 OMP_NUM_THREADS=1
exec java -cp "target/jmh:$path" org.openjdk.jmh.Main 'CallBench' \
  -jvmArgs '-Dorg.bytedeco.javacpp.maxPhysicalBytes=0 -Dai.djl.offline=true' "$@"
