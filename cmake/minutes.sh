#!/usr/bin/env bash
# Prints the minutes that each suite of a run of the tests took, and those of all since Maven's start:
# minutes.sh TARGET START   (called by Maven; reports older than START are of other runs)
set -euo pipefail
target=${1:?target folder}
start=${2:?start, in ISO 8601}

# "group<TAB>suite<TAB>seconds" for each report of Surefire, Failsafe and CTest.
suites() {
    find "$target" -maxdepth 2 -newermt "$start" \( -path '*-reports*/TEST-*.xml' -o -name ctest.xml \) | sort |
    while read -r report; do
        case $report in
            */ctest.xml) group='native tests' ;;
            */failsafe-reports/*) group='packaged' ;;
            */surefire-reports/*) group='Java' ;;
            */surefire-reports-pytorch/*) group='with PyTorch' ;;
            */surefire-reports-djl/*) group='with DJL' ;;
            */surefire-reports-nd4j/*) group='with ND4J' ;;
            *) group=${report%/*} && group="Java up to ${group##*-}" ;;
        esac
        tag=testsuite && [[ $report != */ctest.xml ]] || tag=testcase
        # Attributes may stand on lines of their own.
        tr '\n' ' ' <"$report" | { grep -oE "<$tag [^>]*>" || true; } | awk -v group="$group" '{
            match($0, / name="[^"]*"/); name = substr($0, RSTART + 7, RLENGTH - 8)
            match($0, / time="[^"]*"/); time = substr($0, RSTART + 7, RLENGTH - 8)
            gsub(",", "", time); sub(/^org\.flashring\./, "", name)
            print group "\t" name "\t" time
        }'
    done
}

total=$(($(date +%s) - $(date -d "$start" +%s)))
suites | LC_ALL=C sort -t$'\t' -k1,1 -k3,3nr | LC_ALL=C awk -F'\t' -v total="$total" '
    function close_group() {
        if (group == "") return
        printf "%-52s %6.2f\n", "  other suites: " others, rest / 60
        printf "%-52s %6.2f\n", group ", in all", all / 60
    }
    BEGIN { printf "%-52s %6s\n", "Suite", "min" }
    $1 != group { close_group(); group = $1; all = rest = others = 0 }
    { all += $3; if ($3 >= 3) printf "%-52s %6.2f\n", "  " $2, $3 / 60; else { rest += $3; ++others } }
    END { close_group(); printf "%-52s %6.2f\n", "Since the start, suites running two at a time", total / 60 }'
