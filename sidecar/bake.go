package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/socketd/socketd/socketrpc"
)

// ownMacaroon is a macaroon that socketd bakes for its own clients.
type ownMacaroon struct {
	filename string
	perms    []socketrpc.Permission
}

// ownMacaroons returns socketd's own macaroons in the order in which they are
// baked.
func ownMacaroons() []ownMacaroon {
	read := socketrpc.Permission{
		Entity: socketrpc.Entity, Action: socketrpc.ActionRead,
	}
	write := socketrpc.Permission{
		Entity: socketrpc.Entity, Action: socketrpc.ActionWrite,
	}

	return []ownMacaroon{
		{macaroonFilename, []socketrpc.Permission{read, write}},
		{readonlyFilename, []socketrpc.Permission{read}},
	}
}

// bakeMacaroons bakes those of socketd's own macaroons that are missing. It
// returns a warning with the command that makes the file for each that lnd
// does not let socketd bake.
func bakeMacaroons(ctx context.Context, lnd Lnd, cfg *Config) ([]string,
	error) {

	var warnings []string
	for _, own := range ownMacaroons() {
		path := filepath.Join(cfg.networkDir(), own.filename)
		_, err := os.Stat(path)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("macaroon: %w", err)
		}

		mac, err := lnd.BakeMacaroon(
			ctx, own.perms, cfg.MacaroonRootKeyID,
		)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()

		case err != nil:
			warnings = append(warnings, fmt.Sprintf("lnd does "+
				"not let socketd bake %s (%v); make it with: "+
				"%s", own.filename, err,
				bakeLine(cfg, path, own.perms)))

			continue
		}

		if err := writeSecret(path, mac); err != nil {
			return nil, err
		}
	}

	return warnings, nil
}

// bakeLine is the command that bakes a macaroon of socketd.
func bakeLine(cfg *Config, path string, perms []socketrpc.Permission) string {
	names := make([]string, 0, len(perms))
	for _, perm := range perms {
		names = append(names, perm.Entity+":"+perm.Action)
	}

	return fmt.Sprintf("lncli --network %s bakemacaroon "+
		"--allow_external_permissions --root_key_id %d --save_to %s %s",
		cfg.Network, cfg.MacaroonRootKeyID, path,
		strings.Join(names, " "))
}

// writeSecret writes a file that only its owner can read, whole or not at all.
func writeSecret(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}

	// CreateTemp makes the file with mode 0600.
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(
			fmt.Errorf("write %s: %w", path, err),
			os.Remove(tmp.Name()),
		)
	}

	return nil
}
