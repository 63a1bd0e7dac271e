package store

import (
	"embed"

	"github.com/lightningnetwork/lnd/sqldb/v2"
)

// migrationFiles has the migrations, by number. One that was released is never
// changed: what has to change is a further one.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

const (
	// latestSchema is the number of the last migration.
	latestSchema = 2

	// versionTable has the number of the last migration that was applied.
	versionTable = "schema_migrations"
)

// currentSchema returns the migrations that lead to the schema which the
// queries are for.
func currentSchema() sqldb.MigrationSet {
	return sqldb.MigrationSet{
		TrackingTableName:      versionTable,
		SQLFiles:               migrationFiles,
		SQLFileDirectory:       "migrations",
		LatestMigrationVersion: latestSchema,
		Descriptors: []sqldb.MigrationDescriptor{
			{Name: "init", Version: 1, SchemaVersion: 1},
			{Name: "requests", Version: 2, SchemaVersion: 2},
		},
	}
}
