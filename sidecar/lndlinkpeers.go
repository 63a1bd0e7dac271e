package sidecar

import (
	"context"

	"github.com/socketd/socketd/sidecar/offer"
)

// Connect connects to a node at the addresses that it announces in the graph.
func (l *lndLink) Connect(ctx context.Context, peer offer.PubKey) error {
	conn, err := l.get()
	if err != nil {
		return err
	}

	return conn.Connect(ctx, peer)
}

// SubscribePeers streams the peers that come online.
func (l *lndLink) SubscribePeers(ctx context.Context) (<-chan offer.PubKey,
	<-chan error, error) {

	conn, err := l.get()
	if err != nil {
		return nil, nil, err
	}

	return conn.SubscribePeers(ctx)
}

// Peers returns the peers that are online.
func (l *lndLink) Peers(ctx context.Context) ([]offer.PubKey, error) {
	conn, err := l.get()
	if err != nil {
		return nil, err
	}

	return conn.Peers(ctx)
}

// ChannelPeers returns the nodes with which there are open channels.
func (l *lndLink) ChannelPeers(ctx context.Context) ([]offer.PubKey, error) {
	conn, err := l.get()
	if err != nil {
		return nil, err
	}

	return conn.ChannelPeers(ctx)
}

// Alias returns the alias of a node in the graph, as the node has it.
func (l *lndLink) Alias(ctx context.Context, node offer.PubKey) (string,
	error) {

	conn, err := l.get()
	if err != nil {
		return "", err
	}

	return conn.Alias(ctx, node)
}

// MissingPermissions returns which permissions the lnd macaroon does not hold.
func (l *lndLink) MissingPermissions(ctx context.Context) ([]string, error) {
	conn, err := l.get()
	if err != nil {
		return nil, err
	}

	return conn.MissingPermissions(ctx)
}
