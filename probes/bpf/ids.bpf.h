// SPDX-License-Identifier: GPL-2.0-only
// Numbers of threads and processes as the agent's /proc shows them.
//
// With the agent in the host's pid namespace (NS_INO 0) these are the kernel's own. In another one (a container) every
// task is asked for its number there; a task that has none, because it lives outside, has the number 0: unwatched.
#ifndef EXCISE_IDS_H
#define EXCISE_IDS_H

#include "maps.bpf.h"

#if NS_INO
#define UPID_SIZE 16    // struct upid { int nr; struct pid_namespace *ns; }, include/linux/pid.h

static inline u32 number_in_namespace(u64 task)
{
	u64 pid = kernel_u64(task + OFF_TASK_THREAD_PID), upid;

	if (!pid)
		return 0;
	// the namespace that the task itself lives in; a task of a namespace below ours is not looked for
	upid = pid + OFF_PID_NUMBERS + (u64)(kernel_u32(pid + OFF_PID_LEVEL) & 31) * UPID_SIZE;
	if (kernel_u32(kernel_u64(upid + 8) + OFF_PIDNS_INUM) != NS_INO)
		return 0;
	return kernel_u32(upid);
}

static inline u32 task_tid(u64 task)
{
	return number_in_namespace(task);
}

static inline u32 raw_tid(u64 task)
{
	return number_in_namespace(task);
}

static inline u32 raw_pid(u64 task)
{
	return number_in_namespace(kernel_u64(task + OFF_TASK_LEADER));
}

static inline u64 current_ids(void)
{
	struct bpf_pidns_info ids = {};

	if (bpf_get_ns_current_pid_tgid(NS_DEV, NS_INO, &ids, sizeof(ids)))
		return 0;
	return (u64)ids.tgid << 32 | ids.pid;
}
#else
static inline u32 task_tid(u64 task)
{
	return task_u32(task + OFF_TASK_PID);
}

// Of a task from a tracepoint that is loaded without types.
static inline u32 raw_tid(u64 task)
{
	return kernel_u32(task + OFF_TASK_PID);
}

static inline u32 raw_pid(u64 task)
{
	return kernel_u32(task + OFF_TASK_TGID);
}

static inline u64 current_ids(void)
{
	return bpf_get_current_pid_tgid();      // tgid << 32 | tid
}
#endif

#endif
