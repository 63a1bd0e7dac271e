#!/bin/sh
# Checks what the README asks for, and says in one line what is missing.
set -eu

missing=""
for tool in go git; do
	command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
	echo "missing:$missing (needed are Go 1.26, make and git)" >&2
	exit 1
fi

version=$(go env GOVERSION)
minor=$(echo "$version" | sed -n 's/^go1\.\([0-9][0-9]*\).*/\1/p')
if [ -n "$minor" ] && [ "$minor" -lt 26 ]; then
	echo "missing: Go 1.26 (this is $version)" >&2
	exit 1
fi
