/* SPDX-License-Identifier: GPL-2.0-only */
/* Context of a perf_event program. */
#ifndef EXCISE_SHIM_BPF_PERF_EVENT_H
#define EXCISE_SHIM_BPF_PERF_EVENT_H

#include <asm/ptrace.h>
#include <linux/types.h>

typedef struct pt_regs bpf_user_pt_regs_t;

struct bpf_perf_event_data {
	bpf_user_pt_regs_t regs;
	__u64 sample_period;
	__u64 addr;
};

#endif
