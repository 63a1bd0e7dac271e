package sidecar

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/jessevdk/go-flags"
)

// envPrefix starts the name of every environment variable that sets an option:
// SOCKETD_LND_HOST is lnd.host.
const envPrefix = "SOCKETD_"

// newParser returns a parser of the daemon's options into cfg.
func newParser(cfg *Config) *flags.Parser {
	parser := flags.NewNamedParser(
		"socketd", flags.HelpFlag|flags.PassDoubleDash,
	)
	parser.NamespaceDelimiter = "."
	parser.Usage = "[options]"

	// AddGroup fails only for a struct that is malformed, which the tests
	// of every option would show.
	_, err := parser.AddGroup("Application Options", "", cfg)
	if err != nil {
		panic(fmt.Sprintf("options of socketd: %v", err))
	}

	return parser
}

// LoadConfig reads the options from the command line (without the program's
// name), the environment and the configuration file, in this order of
// precedence. The error is a *flags.Error of type flags.ErrHelp when the help
// text was asked for: its message is the text.
func LoadConfig(args, environ []string) (*Config, error) {
	args, err := withEnvironment(args, environ)
	if err != nil {
		return nil, err
	}

	// The first pass tells where the file is, the last one lets the
	// command line win over it.
	pre := DefaultConfig()
	if err := parseArgs(&pre, args); err != nil {
		return nil, err
	}
	if pre.ShowVersion {
		return &pre, nil
	}

	cfg := DefaultConfig()
	if err := readConfigFile(&cfg, &pre); err != nil {
		return nil, err
	}
	if err := parseArgs(&cfg, args); err != nil {
		return nil, err
	}

	if cfg.Network != pre.Network || cfg.SocketDir != pre.SocketDir {
		return nil, errors.New("network and socketdir say where the " +
			"configuration file is found: set them on the " +
			"command line or in the environment, not in the file")
	}

	cfg.complete()
	if err := cfg.validate(); err != nil {
		return nil, err
	}

	return &cfg, nil
}

// parseArgs parses a command line into cfg.
func parseArgs(cfg *Config, args []string) error {
	rest, err := newParser(cfg).ParseArgs(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}

	return nil
}

// readConfigFile reads the configuration file that pre names into cfg. Only a
// file that was named has to exist.
func readConfigFile(cfg, pre *Config) error {
	path := expandPath(pre.ConfigFile)
	named := path != ""
	if !named {
		path = filepath.Join(
			expandPath(pre.SocketDir), pre.Network, configFilename,
		)
	}

	err := flags.NewIniParser(newParser(cfg)).ParseFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}

	return nil
}

// withEnvironment puts the options that the environment sets, and the command
// line does not, in front of the command line.
func withEnvironment(args, environ []string) ([]string, error) {
	probe := DefaultConfig()
	parser := newParser(&probe)

	// What is wrong with the command line is reported when it is parsed
	// for good; here it only matters which options it sets.
	parser.Options |= flags.IgnoreUnknown
	parser.Options &^= flags.HelpFlag
	_, _ = parser.ParseArgs(args)

	var fromEnv []string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}

		option := findByEnv(parser.Group, name)
		if option == nil {
			return nil, fmt.Errorf("environment: %s is no option "+
				"of socketd", name)
		}
		if option.IsSet() && !option.IsSetDefault() {
			continue
		}

		values := []string{value}
		if option.Field().Type.Kind() == reflect.Slice {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			arg := "--" + option.LongNameWithNamespace() + "=" + v
			fromEnv = append(fromEnv, arg)
		}
	}

	return append(fromEnv, args...), nil
}

// findByEnv returns the option that an environment variable sets, or nil.
func findByEnv(group *flags.Group, name string) *flags.Option {
	for _, option := range group.Options() {
		if envName(option) == name {
			return option
		}
	}
	for _, sub := range group.Groups() {
		if option := findByEnv(sub, name); option != nil {
			return option
		}
	}

	return nil
}

// envName is the environment variable that sets an option.
func envName(option *flags.Option) string {
	name := strings.NewReplacer(".", "_", "-", "_").Replace(
		option.LongNameWithNamespace(),
	)

	return envPrefix + strings.ToUpper(name)
}

// makeDir creates the directory of the network, readable by its owner only.
func makeDir(cfg *Config) error {
	if err := os.MkdirAll(cfg.networkDir(), 0700); err != nil {
		return fmt.Errorf("socketdir: %w", err)
	}

	return nil
}
