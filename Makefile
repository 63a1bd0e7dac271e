# Everything that a person or a machine does with this repository. `make demo`
# and `make check` are the two that a newcomer needs.

SHELL := /bin/sh
.DEFAULT_GOAL := help

BIN := $(CURDIR)/bin
TOOLS := $(BIN)/tools

# One CGO setting, one set of build tags and -trimpath for every binary, so that
# they share their packages in the build cache. Only the race detector needs
# cgo. The tag integration makes lnd's key derivation cheap: it is for the lnd
# that the tests and the demo run, never for what is shipped.
TAGS := signrpc walletrpc chainrpc invoicesrpc peersrpc
LND_TAGS := $(TAGS) integration

VERSION := 0.1.0
COMMIT := $(shell git describe --always --dirty --abbrev=40 2>/dev/null)
PKG := github.com/socketd/socketd
LDFLAGS := -s -w \
	-X $(PKG)/sidecar.version=$(VERSION) -X $(PKG)/sidecar.commit=$(COMMIT) \
	-X main.version=$(VERSION) -X main.commit=$(COMMIT)

GO_BUILD := CGO_ENABLED=0 go build -trimpath
GO_TEST := go test -trimpath

LND := github.com/lightningnetwork/lnd/cmd
BTCD := github.com/btcsuite/btcd

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / \
		{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build socketd, socketcli and socketdev into bin/
	$(GO_BUILD) -tags "$(TAGS)" -ldflags "$(LDFLAGS)" -o $(BIN)/ \
		./cmd/socketd ./cmd/socketcli ./cmd/socketdev

.PHONY: install
install: ## Install socketd and socketcli where go install puts programs
	CGO_ENABLED=0 go install -trimpath -tags "$(TAGS)" \
		-ldflags "$(LDFLAGS)" ./cmd/socketd ./cmd/socketcli

.PHONY: demo
demo: preflight nodes build ## Run the main job between two real lnd nodes
	@$(BIN)/socketdev demo

.PHONY: check
check: FUZZTIME = 10000x
check: packages rpc-check sqlc-check lint race portable fuzz itest ## Pass every test

.PHONY: unit
unit: ## Run the unit tests without the race detector
	CGO_ENABLED=0 $(GO_TEST) -tags "$(TAGS)" ./...

.PHONY: race
race: packages ## Run the unit tests under the race detector
	CGO_ENABLED=1 $(GO_TEST) -tags "$(TAGS)" -race ./...

.PHONY: portable
portable: ## Run the relay's tests with the data path of other systems
	CGO_ENABLED=0 $(GO_TEST) -tags "$(TAGS) portable" ./relay
	CGO_ENABLED=0 GOOS=darwin go build ./relay
	CGO_ENABLED=0 GOOS=windows go build ./relay

# What a stranger can reach is decoded by these packages.
FUZZED := ./relay ./relay/bind ./sidecar/wire ./sidecar/offer ./sidecar/caveat
FUZZTIME ?= 1m

.PHONY: fuzz
fuzz: ## Fuzz every decoder that a stranger can reach, each for FUZZTIME
	@CGO_ENABLED=0 scripts/fuzz.sh $(FUZZTIME) "$(TAGS)" $(FUZZED)

.PHONY: itest
itest: nodes build ## Run the integration tests: real lnds, real binaries
	CGO_ENABLED=0 $(GO_TEST) -tags "$(TAGS) itest" -count=1 -timeout 20m \
		./internal/regtest ./internal/compare ./itest

# How often make soak kills socketd.
KILLS ?= 100

.PHONY: soak
soak: nodes build ## Kill socketd KILLS times under load, and look what is lost
	ITEST_KILLS=$(KILLS) CGO_ENABLED=0 $(GO_TEST) -tags "$(TAGS) itest" \
		-count=1 -timeout 2h -v -run '^TestKills$$' ./itest

.PHONY: bench-compare
bench-compare: preflight nodes build ## Measure sockets beside other relays
	@scripts/compare-packages.sh
	@$(BIN)/socketdev compare

.PHONY: bench
bench: ## Measure the relay, per packet, write and pair, and the store
	CGO_ENABLED=0 $(GO_TEST) -tags "$(TAGS)" -run '^$$' -bench . \
		-timeout 30m ./relay ./sidecar/store

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run the linter over everything
	$(TOOLS)/golangci-lint run --allow-parallel-runners ./...

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Format the source
	$(TOOLS)/golangci-lint fmt ./...

.PHONY: rpc
rpc: $(TOOLS)/protoc-gen-go ## Generate the API code from the proto files
	cd socketrpc && PATH="$(TOOLS):$$PATH" buf lint && \
		PATH="$(TOOLS):$$PATH" buf generate

.PHONY: rpc-check
rpc-check: rpc ## Fail if the generated code is not current
	@git diff --exit-code --stat -- socketrpc || \
		{ echo "socketrpc: commit what make rpc generates"; exit 1; }

.PHONY: sqlc
sqlc: $(TOOLS)/sqlc ## Generate the store's queries from the SQL files
	cd sidecar/store && $(TOOLS)/sqlc generate

.PHONY: sqlc-check
sqlc-check: $(TOOLS)/sqlc ## Fail if the generated queries are not current
	@cd sidecar/store && $(TOOLS)/sqlc diff || \
		{ echo "sidecar/store: commit what make sqlc generates"; exit 1; }

# The nodes for the tests and the demo, and the developer tools, are built from
# the versions that go.mod and tools/go.mod pin.

.PHONY: nodes
nodes:
	@scripts/progress.sh "lnd, lncli, btcd and btcctl" "$(LND_TAGS)" \
		$(BIN)/ $(LND)/lnd $(LND)/lncli $(BTCD) $(BTCD)/cmd/btcctl

$(TOOLS)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(TOOLS) CGO_ENABLED=0 go install -trimpath \
		-ldflags "-s -w" \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/protoc-gen-go: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(TOOLS) CGO_ENABLED=0 go install -trimpath \
		-ldflags "-s -w" \
		github.com/bufbuild/buf/cmd/buf \
		google.golang.org/protobuf/cmd/protoc-gen-go \
		google.golang.org/grpc/cmd/protoc-gen-go-grpc \
		github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway \
		github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2

# Without cgo it parses SQL with PostgreSQL's own parser, compiled to WebAssembly.
$(TOOLS)/sqlc: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(TOOLS) CGO_ENABLED=0 go install -trimpath \
		-ldflags "-s -w" github.com/sqlc-dev/sqlc/cmd/sqlc

.PHONY: preflight
preflight:
	@scripts/preflight.sh

.PHONY: packages
packages: preflight
	@scripts/packages.sh
