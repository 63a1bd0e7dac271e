package sidecar

import (
	"context"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// GetPolicy returns whose requests are met, and how many were not.
func (r *rpcServer) GetPolicy(context.Context,
	*socketrpc.GetPolicyRequest) (*socketrpc.GetPolicyResponse, error) {

	policy, isSet := r.policy.get()

	return &socketrpc.GetPolicyResponse{
		Policy:          marshalPolicy(&policy),
		IsSet:           isSet,
		NumHosted:       uint32(r.offers.NumHosted()),
		RequestsRefused: r.offers.RequestsRefused(),
	}, nil
}

// UpdatePolicy changes whose requests are met, or goes back to what the options
// say.
func (r *rpcServer) UpdatePolicy(ctx context.Context,
	req *socketrpc.UpdatePolicyRequest) (*socketrpc.UpdatePolicyResponse,
	error) {

	var (
		policy store.Policy
		err    error
	)
	switch names := setFields(req); {
	case len(names) == 0:
		return nil, status.Error(codes.InvalidArgument, "nothing to "+
			"change: set at least one field")

	case req.Reset_ && len(names) > 1:
		return nil, invalid("reset", "no other field may be set "+
			"beside it")

	case req.Reset_:
		policy, err = r.policy.reset(ctx)

	default:
		policy, err = r.policy.update(ctx, func(p store.Policy) (
			store.Policy, error) {

			return changePolicy(p, req, r.policy.self)
		})
	}
	if err != nil {
		return nil, policyError(err)
	}

	return &socketrpc.UpdatePolicyResponse{
		Policy: marshalPolicy(&policy),
	}, nil
}

// setFields returns the names of the fields that a request sets.
func setFields(req protoreflect.ProtoMessage) []string {
	var names []string
	req.ProtoReflect().Range(func(field protoreflect.FieldDescriptor,
		_ protoreflect.Value) bool {

		names = append(names, string(field.Name()))

		return true
	})

	return names
}

// changePolicy returns a policy with what a request sets. Its errors name the
// field.
func changePolicy(p store.Policy, req *socketrpc.UpdatePolicyRequest,
	own offer.PubKey) (store.Policy, error) {

	if req.AllowRequests != nil {
		err := setAllowed(&p, req.AllowRequests.Words, own)
		if err != nil {
			return p, invalid("allow_requests", "%v", err)
		}
	}
	if req.OpenFor != nil {
		nodes, err := parseKeys(req.OpenFor.Words, own)
		if err != nil {
			return p, invalid("open_for", "%v", err)
		}
		p.OpenFor = nodes
	}

	for _, count := range []struct {
		name string
		from *uint32
		to   *int
	}{
		{"max_hosted", req.MaxHosted, &p.MaxHosted},
		{"max_per_node", req.MaxPerNode, &p.MaxPerNode},
	} {
		if count.from == nil {
			continue
		}
		if err := checkCount(int64(*count.from)); err != nil {
			return p, invalid(count.name, "%v", err)
		}
		*count.to = int(*count.from)
	}

	if req.MaxLifetime != nil {
		const most = uint64(offer.MaxLifetime / time.Second)
		seconds := *req.MaxLifetime
		if seconds < 1 || seconds > most {
			return p, invalid("max_lifetime", "%d is not from 1 "+
				"to %d s", seconds, most)
		}
		p.MaxLifetime = time.Duration(seconds) * time.Second
	}

	for _, bandwidth := range []struct {
		name string
		from *uint64
		to   *uint64
	}{
		{"max_bandwidth", req.MaxBandwidth, &p.MaxBandwidth},
		{"node_bandwidth", req.NodeBandwidth, &p.NodeBandwidth},
		{"total_bandwidth", req.TotalBandwidth, &p.TotalBandwidth},
	} {
		if bandwidth.from == nil {
			continue
		}
		if *bandwidth.from > maxQuantity {
			return p, invalid(bandwidth.name, "%d is too large, "+
				"at most %d is possible", *bandwidth.from,
				int64(maxQuantity))
		}
		*bandwidth.to = *bandwidth.from
	}

	return p, nil
}

// policyError returns the status for what went wrong with a policy. A status
// stays as it is.
func policyError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if code := status.FromContextError(err).Code(); code != codes.Unknown {
		return status.Error(code, err.Error())
	}

	return status.Error(codes.Internal, err.Error())
}

// marshalPolicy returns a policy as the API has it.
func marshalPolicy(p *store.Policy) *socketrpc.Policy {
	return &socketrpc.Policy{
		AllowRequests:  allowedWords(p),
		OpenFor:        keyWords(p.OpenFor),
		MaxHosted:      uint32(p.MaxHosted),
		MaxPerNode:     uint32(p.MaxPerNode),
		MaxLifetime:    uint64(p.MaxLifetime / time.Second),
		MaxBandwidth:   p.MaxBandwidth,
		NodeBandwidth:  p.NodeBandwidth,
		TotalBandwidth: p.TotalBandwidth,
	}
}
