#!/bin/sh
# Installs what the checks need from Debian: the race detector is cgo, and an
# integration test runs a program in Python. It never lets a check be skipped.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missing=""
echo 'int main(void) { return 0; }' >"$work/a.c"
if ! cc -o "$work/a" "$work/a.c" 2>/dev/null; then
	missing="gcc libc6-dev"
fi
if ! python3 -c 'import asyncio, json, ssl, unicodedata' 2>/dev/null; then
	missing="$missing python3"
fi
if [ -z "$missing" ]; then
	exit 0
fi

if [ "$(id -u)" = 0 ]; then
	run=""
elif sudo -n true 2>/dev/null; then
	run="sudo -n"
else
	echo "missing: a C compiler or Python; run: apt-get install -y" \
		$missing >&2
	exit 1
fi

$run apt-get update -q
# shellcheck disable=SC2086 # These are several packages.
$run env DEBIAN_FRONTEND=noninteractive apt-get install -qy $missing
