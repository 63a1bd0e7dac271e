// Package rules checks the shape of the repository: which room may use which,
// and what no room may do. It has tests only.
package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the path of this module.
const module = "github.com/socketd/socketd"

// rooms has every package of the module, and the packages of the module that
// it may import. Arrows run downward only.
var rooms = map[string][]string{
	"cmd/socketd": {"sidecar"},
	"cmd/socketcli": {
		"relay/bind", "relay/client", "relay/globalip", "socketrpc",
	},
	"cmd/socketdev": {
		"internal/compare", "internal/regtest", "relay/bind",
		"relay/client", "socketrpc",
	},
	"internal/compare": {
		"internal/regtest", "relay", "relay/bind", "socketrpc",
	},
	"internal/regtest": {"socketrpc"},
	"internal/rules":   {},
	"itest": {
		"internal/regtest", "relay/bind", "relay/client", "sidecar",
		"sidecar/wire", "socketrpc",
	},
	"relay":          {"relay/bind"},
	"relay/bind":     {},
	"relay/client":   {"relay", "relay/bind"},
	"relay/globalip": {},
	"sidecar": {
		"relay", "relay/globalip", "sidecar/caveat", "sidecar/offer",
		"sidecar/store", "sidecar/wire", "socketrpc",
	},
	"sidecar/caveat":     {},
	"sidecar/offer":      {"sidecar/wire"},
	"sidecar/store":      {"sidecar/offer", "sidecar/store/sqlc"},
	"sidecar/store/sqlc": {},
	"sidecar/wire":       {},
	"socketrpc":          {},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Standard     bool
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// list runs go list and returns the packages.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()

	args = append([]string{"list", "-json", "-tags", "itest"}, args...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())

	var pkgs []pkg
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		require.NoError(t, err)
		pkgs = append(pkgs, p)
	}
}

// deps returns the import paths of all that a package of the module needs,
// without the standard library.
func deps(t *testing.T, room string) []string {
	t.Helper()

	var paths []string
	for _, p := range list(t, "-deps", "./"+room) {
		if !p.Standard {
			paths = append(paths, p.ImportPath)
		}
	}

	return paths
}

// TestArrows checks that every package has its place, and that each imports
// only the rooms below it. Tests are held to the same.
func TestArrows(t *testing.T) {
	t.Parallel()

	seen := make(map[string]bool)
	for _, p := range list(t, "./...") {
		room := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, ok := rooms[room]
		require.True(t, ok, "%s is no room: add it to the rules", room)
		seen[room] = true

		for _, imported := range slices.Concat(
			p.Imports, p.TestImports, p.XTestImports,
		) {
			below, ok := strings.CutPrefix(imported, module+"/")
			if !ok || below == room {
				continue
			}
			require.Contains(t, allowed, below, "%s imports %s",
				room, below)
		}
	}
	for room := range rooms {
		require.True(t, seen[room], "%s does not exist", room)
	}
}

// alone lists the packages that others may use without the rest, and what each
// may need besides the standard library, by the beginnings of the paths.
var alone = map[string][]string{
	"relay": {
		module + "/relay/bind", "golang.org/x/sys/",
		"golang.org/x/net/", "golang.org/x/time/",
	},
	"relay/bind":     {},
	"relay/client":   {module + "/relay/bind", "golang.org/x/sys/"},
	"relay/globalip": {},
	"sidecar/caveat": {"gopkg.in/macaroon.v2", "golang.org/x/crypto/"},
}

// TestStandAlone checks that these packages need the standard library and a few
// others, nothing else.
func TestStandAlone(t *testing.T) {
	t.Parallel()

	for room, allowed := range alone {
		for _, dep := range deps(t, room) {
			ok := dep == module+"/"+room
			for _, prefix := range allowed {
				ok = ok || strings.HasPrefix(dep, prefix)
			}
			require.True(t, ok, "%s needs %s", room, dep)
		}
	}
}

// never lists what a room must not need, not even indirectly.
var never = map[string][]string{
	"sidecar/wire": {
		"github.com/lightninglabs/lndclient", "google.golang.org/grpc",
	},
	"sidecar/offer": {
		"github.com/lightninglabs/lndclient", "google.golang.org/grpc",
		"database/sql", module + "/relay",
	},
	"sidecar/store": {
		"github.com/lightninglabs/lndclient", "google.golang.org/grpc",
		module + "/relay", module + "/socketrpc",
	},
	"cmd/socketcli": {
		"github.com/lightningnetwork/", "github.com/lightninglabs/",
		module + "/sidecar",
	},
	"socketrpc": {
		"github.com/lightningnetwork/", "github.com/lightninglabs/",
	},
	"cmd/socketd": {
		module + "/internal/",
	},
}

// TestNever checks what rooms must not need.
func TestNever(t *testing.T) {
	t.Parallel()

	for room, forbidden := range never {
		for _, dep := range deps(t, room) {
			for _, prefix := range forbidden {
				require.False(t, strings.HasPrefix(dep, prefix),
					"%s needs %s", room, dep)
			}
		}
	}
}

// TestPure checks that what decodes can neither do I/O nor read a clock.
func TestPure(t *testing.T) {
	t.Parallel()

	for _, p := range list(
		t, "./sidecar/wire", "./sidecar/caveat", "./relay/bind",
	) {
		for _, impure := range []string{
			"net", "os", "time", "log/slog", "context",
		} {
			require.NotContains(t, p.Imports, impure)
		}
	}
}

// TestNobodyNeedsAllOfLnd checks that no package needs lnd's root package,
// which is the whole daemon.
func TestNobodyNeedsAllOfLnd(t *testing.T) {
	t.Parallel()

	require.NotContains(
		t, deps(t, "..."), "github.com/lightningnetwork/lnd",
	)
}

// TestSource checks what no source file may do.
func TestSource(t *testing.T) {
	t.Parallel()

	for _, p := range list(t, "./...") {
		inCmd := strings.HasPrefix(p.ImportPath, module+"/cmd/")
		for _, name := range p.GoFiles {
			checkFile(t, filepath.Join(p.Dir, name), inCmd)
		}
	}
}

// checkFile checks one file that is not a test.
func checkFile(t *testing.T, filename string, inCmd bool) {
	t.Helper()

	source, err := os.ReadFile(filename)
	require.NoError(t, err)
	file, err := parser.ParseFile(
		token.NewFileSet(), filename, source,
		parser.SkipObjectResolution,
	)
	require.NoError(t, err)

	for _, imported := range file.Imports {
		name := strings.Trim(imported.Path.Value, `"`)
		helper := path.Base(name) == "testing" ||
			strings.Contains(name, "/testify/") ||
			strings.HasSuffix(name, "/bufconn")
		require.False(t, helper, "%s imports %s", filename, name)
		require.NotEqual(t, "net/http/pprof", name,
			"%s uses the default mux", filename)
	}

	ast.Inspect(file, func(node ast.Node) bool {
		sel, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		base, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		use := base.Name + "." + sel.Sel.Name

		if !inCmd {
			require.NotEqual(t, "os.Exit", use, filename)
		}
		require.NotContains(t, []string{
			"http.Handle", "http.HandleFunc",
			"http.DefaultServeMux", "http.ListenAndServe",
			"http.ListenAndServeTLS",
		}, use, filename)

		return true
	})
}
