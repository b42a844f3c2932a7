#!/usr/bin/env bash
# Brings Apache Kafka's jars (43 MB) by Maven, for tests/servers/kafka.py, into
#   ${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}/kafka-VERSION
#
# Every further run is over at once. It needs Maven now and Java 17 or newer when a server is started.
set -euo pipefail

pom=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/kafka-pom.xml
version=$(sed -n '/kafka_2.13/{n;s/.*<version>\(.*\)<.*/\1/p}' "$pom")
cache=${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock}
home=$cache/kafka-$version

# The folder is given its name last: it says that all of them are there.
[ -d "$home" ] && exit 0
command -v mvn >/dev/null || {
    echo "kafka: Maven is missing (on Debian: apt install maven)" >&2
    exit 1
}
mkdir -p "$cache"
work=$(mktemp -d "$cache/kafka.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "kafka: bringing Apache Kafka $version, once"
mvn -q -B -f "$pom" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work/libs"
# Two at once: one of them wins, and both have brought the same.
mv -T "$work" "$home" 2>/dev/null || [ -d "$home" ]
