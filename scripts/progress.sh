#!/bin/sh
# progress.sh NAME TAGS OUTDIR PACKAGE...
# Builds programs and says how far it is: the first build compiles about a
# thousand packages and takes minutes, later ones take seconds.
set -eu

name=$1 tags=$2 out=$3
shift 3

go mod download
total=$(go list -deps -tags "$tags" "$@" | wc -l)
status=$(mktemp)
trap 'rm -f "$status"' EXIT

{
	code=0
	CGO_ENABLED=0 go build -v -trimpath -tags "$tags" -ldflags "-s -w" \
		-o "$out" "$@" 2>&1 || code=$?
	echo "$code" >"$status"
} | awk -v total="$total" -v name="$name" '
	/^[a-z0-9_.-]+(\/[A-Za-z0-9_.~-]+)*$/ {
		if (++n == 1)
			printf "building %s, once: 5 to 10 minutes\n", name
		if (n % 50 == 0)
			printf "  %d of %d packages\n", n, total
		fflush()
		next
	}
	{ print; fflush() }'

exit "$(cat "$status")"
