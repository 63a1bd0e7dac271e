package compare

import (
	"context"
	"fmt"
	"runtime"
)

// generate does what a spec says.
func generate(ctx context.Context, spec Spec) (Result, error) {
	switch spec.Work {
	case Window:
		return onThread(ctx, spec, runWindow)
	case Load:
		return onThread(ctx, spec, runLoad)
	case Ping:
		return onThread(ctx, spec, runPing)
	case Bulk:
		return onThread(ctx, spec, runBulk)
	case Short:
		return runShort(ctx, spec)
	case Idle:
		return runIdle(ctx, spec)
	default:
		return Result{}, fmt.Errorf("unknown work %q", spec.Work)
	}
}

// onThread runs what sends and receives datagrams on a thread of its own, which
// waits in system calls.
func onThread(ctx context.Context, spec Spec,
	run func(context.Context, Spec) (Result, error)) (Result, error) {

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	return run(ctx, spec)
}
