#!/usr/bin/env bash
# Fuzzes every Fuzz target of the module for the given time each, one after the other,
# and prints how many inputs each was given.
#
#   tools/fuzz.sh 20s             all of them; what a target finds ends the run
#   tools/fuzz.sh 10m Decode      those whose name or folder contains "Decode"
#   FUZZ_PARALLEL=1               so many at the same time: with 1, seconds are CPU seconds
#   FUZZ_KEEP=1                   adds to the kept corpus (testdata/fuzz) what is small and new
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s} only=${2:-} parallel=${FUZZ_PARALLEL:-} keep=${FUZZ_KEEP:-}
most=24 # inputs kept for each target, none of them larger than a KiB
# Go gives a minute to making each new input of more than a few bytes smaller, and to
# nothing else meanwhile: a target with inputs of 2 KiB tried five in two minutes.
smaller=500x

# keep_small FOLDER TARGET: of all sizes alike. The smallest alone would be a byte or two, and reach no further than the header.
keep_small() {
  local cached kept=$1/testdata/fuzz/$2 room
  cached=$(go env GOCACHE)/fuzz/$(cd "$1" && go list .)/$2
  [ -d "$cached" ] || return 0
  mkdir -p "$kept"
  room=$((most - $(find "$kept" -type f | wc -l)))
  find "$cached" -type f -size -3 -printf '%s %f\n' | sort -n | cut -d' ' -f2 |
    awk -v room="$room" '{ all[NR] = $0 }
      END { for (i = 0; i < room && i < NR; i++) print all[1 + (NR > room ? int(i * NR / room) : i)] }' |
    while read -r file; do
      [ -e "$kept/$file" ] || cp "$cached/$file" "$kept/$file"
    done
}

log=$(mktemp) table=$(mktemp)
trap 'rm -f "$log" "$table"' EXIT
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/func //' | while read -r target; do
    dir=$(dirname "$file")
    case "$dir $target" in *"$only"*) ;; *) continue ;; esac
    echo "== $dir $target"
    if ! go test -run '^$' -fuzz "^${target}\$" -fuzztime "$time" -fuzzminimizetime "$smaller" ${parallel:+-parallel "$parallel"} "$dir" </dev/null | tee "$log"; then
      # Time that is up while an input is under way is reported as a failure, with no input.
      # What a test itself says has the place before it.
      grep -qxE ' +context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" || exit 1
      echo "   (the time was up)"
    fi
    execs=$(grep -oE 'execs: [0-9]+' "$log" | tail -1 | grep -oE '[0-9]+' || echo 0)
    printf '%10d  %s %s\n' "$execs" "$dir" "$target" >>"$table"
    [ -z "$keep" ] || keep_small "$dir" "$target"
  done
done
echo "== inputs"
sort -k2 "$table"
awk '{n += $1} END {printf "%10d  in %d targets\n", n, NR}' "$table"
