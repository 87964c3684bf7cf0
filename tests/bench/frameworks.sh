#!/usr/bin/env bash
# The attention of DJL, ND4J and PyTorch's JavaCPP preset beside FlashRing in its place:
# frameworks.sh [LENGTH [TURNS [full|causal [PICTURE]]]]
# A process each, in turns. After mvn package, or anything that compiles the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
mvn -B -ntp -q dependency:build-classpath -Dmdep.outputFile=target/bench.classpath -Dmdep.includeScope=test
exec java -cp "target/test-classes:target/classes:$(<target/bench.classpath)" \
  org.flashring.frameworks.FrameworkContest \
  "${1:-4096}" "${2:-5}" "${3:-full}" "${4:-target/frameworks.png}"
