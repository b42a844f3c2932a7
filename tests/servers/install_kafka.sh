#!/usr/bin/env bash
# Brings Apache Kafka's jars (43 MB) by Maven, for tests/servers/kafka.py, into
#   ${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}/kafka-VERSION
#
# Every further run is over at once. Two runs at once wait for each other. It needs Maven, and Python for the lock
# (PYTHON=...); Java 17 or newer is needed when a server is started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pom=$here/kafka-pom.xml
version=$(sed -n '/kafka_2.13/{n;s/.*<version>\(.*\)<.*/\1/p;}' "$pom")
cache=${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}
home=$cache/kafka-$version
log=$cache/kafka-install.log
python=${PYTHON:-python3}
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

say() { echo "kafka: $*"; }

# The copy of the pom is written last: it says that all the jars are there.
installed() { cmp -s "$pom" "$home/installed"; }

installed && exit 0
if ! command -v mvn >/dev/null; then
    say "Maven is missing. Install it; on Debian: maven, and default-jre-headless for Java." >&2
    exit 1
fi
mkdir -p "$home"
# The lock belongs to the descriptor, so it outlives the Python that took it, and goes when this script ends.
exec 9>"$cache/kafka.lock"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
installed && exit 0

say "bringing $version by Maven into $home"
# A jar that an interrupted run brought half of is not in the way.
rm -rf "$home/part" "$home/installed"
if ! mvn -B -f "$pom" "$plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$home/part" >"$log" 2>&1; then
    grep ERROR "$log" | head -n 5 >&2 || tail -n 20 "$log" >&2
    say "Maven could not bring the jars; the whole log is $log" >&2
    exit 1
fi
rm -rf "$home/libs"
mv "$home/part" "$home/libs"
cp "$pom" "$home/installed.part"
mv "$home/installed.part" "$home/installed"
say "ready"
