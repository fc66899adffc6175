// SPDX-License-Identifier: GPL-2.0-only
// Timer samples: which stack, in user or kernel mode. One software event per CPU, filtered by process here.
#ifndef EXCISE_CPU_H
#define EXCISE_CPU_H

#include "cpython.bpf.h"
#include "ids.bpf.h"
#include "waits.bpf.h"

// The definition of a kernel chain is sent like that of a Python chain.
static inline u64 kernel_stack(void *ctx, struct scratch *s, u32 pid, u32 tid)
{
	u64 hash = 0x84222325cbf29ce4ULL, n;
	s64 bytes = bpf_get_stack(ctx, s->kernel_ips, sizeof(s->kernel_ips), 0);
	u32 mark = 1;
	int i;

	if (bytes <= 0)
		return 0;
	n = bytes / 8;
	for (i = 0; i < MAX_KERNEL_FRAMES; i++) {
		if (i >= n)
			break;
		hash = mix(hash, s->kernel_ips[i]);
		hash ^= hash >> 29;
	}
	if (!hash)
		hash = 1;
	if (stacks.lookup(&hash))
		return hash;
	s->head.type = REC_STACK;
	s->head.kind = STACK_KERNEL;
	s->head.flags = 0;
	s->head.pad = 0;
	s->head.tid = tid;
	s->head.pid = pid;
	s->head.count = n;
	s->head.hash = hash;
	asm volatile("" : "+r"(n));
	if (n > MAX_KERNEL_FRAMES)
		return 0;
	bpf_probe_read_kernel(s->frames, n * 8, s->kernel_ips);
	if (ring.ringbuf_output(&s->head, sizeof(s->head) + n * 8, BPF_RB_NO_WAKEUP))
		count_drop(DROP_STACK_LOST);
	else
		stacks.update(&hash, &mark);
	return hash;
}

static inline void sample(struct bpf_perf_event_data *ctx, u32 pid, u32 tid)
{
	struct proc *p = procs.lookup(&pid);
	struct control *c = control();
	struct rec_slice *r;
	struct scratch *s;
	struct thread *t;
	u64 task, cs;
	int zero = 0;

	if (!p)
		return;
	s = scratches.lookup(&zero);
	if (!s)
		return;
	r = &s->sample;
	__builtin_memset(r, 0, sizeof(*r));
	task = bpf_get_current_task_btf();
	r->type = REC_SAMPLE;
	r->state = KSTATE_RUNNING;
	r->tid = tid;
	r->pid = pid;
	r->fd = FD_BYTE_NONE;
	r->syscall = -1;
	r->weight = c ? c->sample_weight : WEIGHT_ONE;
	r->ts_ns = bpf_ktime_get_ns();
	cs = *(volatile u64 *)((u64)ctx + REG_CS);
	if (cs & 3) {
		r->ip = *(volatile u64 *)((u64)ctx + REG_IP);
	} else {
		u64 regs = bpf_task_pt_regs(task);

		r->flags = FLAG_KERNEL_MODE;
		r->ip = typed_u64(regs + REG_IP);
		r->syscall = typed_u64(regs + REG_ORIG_AX);
		r->kstack = kernel_stack(ctx, s, pid, tid);
	}
	if (p->version)
		r->stack = python_stack(s, p, task, pid, tid);
	else if (p->flags & PROC_EXECED)
		count_drop(DROP_EXEC_GAP);
	t = threads.lookup(&tid);
	if (t && r->stack) {
		t->flags |= THREAD_CARRIER;
		t->stack = r->stack;
	}
	emit(r, sizeof(*r));
}

#endif
