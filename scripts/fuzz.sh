#!/bin/sh
# fuzz.sh TIME TAGS PACKAGE...
# Fuzzes every fuzz test of the packages, one after the other, each for so long
# (1m), or so often (10000x). What breaks one is kept in its testdata/fuzz, for
# the next go test.
set -eu

time=$1 tags=$2
shift 2

out=$(mktemp)
trap 'rm -f "$out"' EXIT

for package in "$@"; do
	targets=$(go test -trimpath -tags "$tags" -list '^Fuzz' "$package" |
		grep '^Fuzz') || {
		echo "$package has no fuzz test" >&2
		exit 1
	}

	for target in $targets; do
		if go test -trimpath -tags "$tags" -run '^$' \
			-fuzz "^$target\$" -fuzztime "$time" "$package" \
			>"$out" 2>&1; then

			echo "$package $target: $(grep execs "$out" | tail -n 1)"
		elif ! grep -q "Failing input" "$out" &&
			grep -q "^    context deadline exceeded" "$out"; then

			# Go sometimes says so when the time is over.
			echo "$package $target: $(grep execs "$out" | tail -n 1)"
		else
			cat "$out" >&2
			exit 1
		fi
	done
done
