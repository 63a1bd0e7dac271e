package compare

import (
	"context"
	"os"
	"strconv"
)

// The names of the contestants, as in the tables.
const (
	nameNone    = "no relay"
	nameSocketd = "socketd"
	nameGuarded = "socketd, TOKEN and limits"
	nameCoturn  = "coturn"
	namePion    = "pion/turn"
	nameHaproxy = "haproxy"
	nameSplice  = "haproxy, splicing forced"
	nameNginx   = "nginx stream"
	nameSocat   = "socat"
)

// starters start the contestants.
var starters = map[string]func(context.Context, *stage) (relay, error){
	nameNone: func(context.Context, *stage) (relay, error) {
		return noRelay{}, nil
	},
	nameSocketd: func(ctx context.Context, s *stage) (relay, error) {
		return startSocketd(ctx, s, false)
	},
	nameGuarded: func(ctx context.Context, s *stage) (relay, error) {
		return startSocketd(ctx, s, true)
	},
	nameCoturn: startCoturn,
	namePion:   startPion,
	nameHaproxy: func(ctx context.Context, s *stage) (relay, error) {
		return startHaproxy(ctx, s, false)
	},
	nameSplice: func(ctx context.Context, s *stage) (relay, error) {
		return startHaproxy(ctx, s, true)
	},
	nameNginx: startNginx,
	nameSocat: startSocat,
}

// startCoturn starts coturn: open to all, without TLS, and with as many threads
// as it takes by itself.
func startCoturn(ctx context.Context, s *stage) (relay, error) {
	path, err := find("turnserver")
	if err != nil {
		return nil, err
	}
	ports, err := s.freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}

	udp := Ends{Kind: TURN, Server: ports[0]}

	return s.relay(
		ctx, udp, Ends{}, nameCoturn, path,
		"-n", "--no-auth", "--no-tls", "--no-dtls", "--no-cli",
		"--listening-ip="+loopback.String(),
		"--relay-ip="+loopback.String(),
		"--listening-port="+strconv.Itoa(int(ports[0])),
		"--min-port="+strconv.Itoa(turnPortMin),
		"--max-port="+strconv.Itoa(turnPortMax),
		"--allow-loopback-peers", "--log-file=stdout",
		"--pidfile="+s.file("coturn.pid"),
		"--userdb="+s.file("coturn.db"),
	)
}

// startPion starts a server of pion/turn.
func startPion(ctx context.Context, s *stage) (relay, error) {
	ports, err := s.freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}

	udp := Ends{Kind: TURN, Server: ports[0]}

	return s.relay(
		ctx, udp, Ends{}, "pion", s.self,
		"compare", "turn", "--port="+strconv.Itoa(int(ports[0])),
	)
}

// startHaproxy starts haproxy as it comes, or with splicing forced.
func startHaproxy(ctx context.Context, s *stage, splice bool) (relay, error) {
	path, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	ports, err := s.freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}

	config := s.file("haproxy.cfg")
	text := haproxyConfig(ports[0], ports[1], splice)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}

	tcp := Ends{Kind: Proxy, Server: ports[0], Upstream: ports[1]}

	return s.relay(
		ctx, Ends{}, tcp, nameHaproxy, path, "-db", "-f", config,
	)
}

// startNginx starts nginx with one worker, for UDP and for TCP.
func startNginx(ctx context.Context, s *stage) (relay, error) {
	path, err := find("nginx")
	if err != nil {
		return nil, err
	}
	ports, err := s.freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}

	config := s.file("nginx.conf")
	text := nginxConfig(
		nginxModule(), s.file("nginx.pid"), ports[0], ports[1],
	)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}

	ends := Ends{Kind: Proxy, Server: ports[0], Upstream: ports[1]}

	return s.relay(
		ctx, ends, ends, "nginx", path, "-e", "stderr", "-p", s.dir,
		"-c", config,
	)
}

// startSocat starts a socat for UDP and one for TCP. Each client gets a process
// of its own.
func startSocat(ctx context.Context, s *stage) (relay, error) {
	path, err := find("socat")
	if err != nil {
		return nil, err
	}
	ports, err := s.freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}

	ends := Ends{Kind: Proxy, Server: ports[0], Upstream: ports[1]}
	from, to := strconv.Itoa(int(ports[0])), strconv.Itoa(int(ports[1]))
	bind := ",bind=" + loopback.String() + ",fork,reuseaddr"

	// A client that is silent for so many seconds has gone: that of a
	// finished measurement.
	udp, err := s.relay(
		ctx, ends, Ends{}, nameSocat, path, "-T", "10",
		"UDP4-LISTEN:"+from+bind, "UDP4:127.0.0.1:"+to,
	)
	if err != nil {
		return nil, err
	}

	tcp, err := s.relay(
		ctx, Ends{}, ends, nameSocat, path,
		"TCP4-LISTEN:"+from+bind+",backlog=128", "TCP4:127.0.0.1:"+to,
	)
	if err != nil {
		_ = udp.stop()

		return nil, err
	}

	return &processRelay{
		procs: append(udp.procs, tcp.procs...),
		udp:   ends,
		tcp:   ends,
	}, nil
}
