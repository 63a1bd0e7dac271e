package compare

import (
	"fmt"
	"os"
	"strings"
)

// nginxModules is where Debian keeps nginx's module for TCP and UDP.
const nginxModules = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginxModule returns the module to load, empty if nginx has it built in.
func nginxModule() string {
	if _, err := os.Stat(nginxModules); err != nil {
		return ""
	}

	return nginxModules
}

// haproxyConfig returns a configuration of haproxy with one listener and one
// server, both ports of loopback: one thread, and everything else as it comes,
// or with splicing forced through pipes of 1 MiB.
func haproxyConfig(listen, server uint16, splice bool) string {
	var b strings.Builder
	b.WriteString("global\n\tnbthread 1\n\tmaxconn 4000\n")
	if splice {
		b.WriteString("\ttune.pipesize 1048576\n")
	}

	b.WriteString("defaults\n\tmode tcp\n\ttimeout connect 5s\n" +
		"\ttimeout client 1h\n\ttimeout server 1h\n")
	if splice {
		b.WriteString("\toption splice-request\n" +
			"\toption splice-response\n")
	} else {
		b.WriteString("\toption splice-auto\n")
	}

	fmt.Fprintf(&b, "listen relay\n\tbind 127.0.0.1:%d\n"+
		"\tserver upstream 127.0.0.1:%d\n", listen, server)

	return b.String()
}

// nginxConfig returns a configuration of nginx with one worker that serves one
// port of loopback, for UDP and for TCP, and passes it on to another.
func nginxConfig(module, pidFile string, listen, server uint16) string {
	var b strings.Builder
	if module != "" {
		fmt.Fprintf(&b, "load_module %s;\n", module)
	}
	if os.Getuid() == 0 {
		// The directory is for nobody else.
		b.WriteString("user root;\n")
	}

	fmt.Fprintf(&b, `daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid %s;
error_log stderr error;
events {
	worker_connections 8192;
}
stream {
`, pidFile)
	for _, udp := range []string{" udp", ""} {
		fmt.Fprintf(&b, `	server {
		listen 127.0.0.1:%d%s;
		proxy_pass 127.0.0.1:%d;
		proxy_timeout 1h;
	}
`, listen, udp, server)
	}
	b.WriteString("}\n")

	return b.String()
}
