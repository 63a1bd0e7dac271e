#!/bin/sh
# Installs the relays that make bench-compare compares with from Debian. It
# leaves none of their services running, now or after a restart of the machine.
set -eu

# coturn has turnserver, and so on: programs are what is looked for, so that
# those that came in another way count.
missing=""
add() {
	[ -e "$2" ] || command -v "$2" >/dev/null 2>&1 ||
		missing="$missing $1"
}
PATH="$PATH:/usr/sbin:/sbin"
add coturn turnserver
add haproxy haproxy
add nginx nginx
add libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
add socat socat
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	run=""
elif sudo -n true 2>/dev/null; then
	run="sudo -n"
else
	echo "missing:$missing; run: apt-get install -y$missing" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing:$missing; there is no apt-get to install them" >&2
	exit 1
fi

# Debian starts what it installs unless this file says no. One that is there
# already has the last word.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$run rm -f "$policy"' EXIT
	trap 'exit 1' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' | $run tee "$policy" >/dev/null
	$run chmod 755 "$policy"
fi

$run apt-get update -q
# shellcheck disable=SC2086 # words on purpose
$run env DEBIAN_FRONTEND=noninteractive apt-get install -qy \
	--no-install-recommends $missing

# Not at the next boot either: only those that came just now.
for package in $missing; do
	case "$package" in
	coturn | haproxy | nginx)
		if command -v systemctl >/dev/null 2>&1; then
			$run systemctl disable "$package" || true
		fi
		;;
	esac
done
