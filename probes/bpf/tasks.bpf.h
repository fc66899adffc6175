// SPDX-License-Identifier: GPL-2.0-only
// Threads and processes from their first tick: fork, the first wakeup, exec.
#ifndef EXCISE_TASKS_H
#define EXCISE_TASKS_H

#include "maps.bpf.h"
#include "ids.bpf.h"
#include "waits.bpf.h"

static inline void emit_task(int event, u32 pid, u32 tid, u32 parent)
{
	struct rec_task r = {};

	r.type = REC_TASK;
	r.event = event;
	r.pid = pid;
	r.tid = tid;
	r.parent = parent;
	r.ts_ns = bpf_ktime_get_ns();
	emit(&r, sizeof(r));
}

// Two threads that bore one number: their time is one thread's to every reader.
static inline void add_totals(struct thread *to, struct thread *from)
{
	int i;

	for (i = 0; i < N_KSTATES; i++)
		to->state_ns[i] += from->state_ns[i];
}

// A new thread whose number is in the map. Its former owner ended and was not buried yet: it lives again when it is of
// the same process, else what the former one had is lost. (Not dead: the agent's snapshot was faster.)
static inline void reuse_thread(u32 tid, struct thread *fresh)
{
	struct thread *t = threads.lookup(&tid);

	if (!t) {
		count_drop(DROP_THREADS_UNTRACKED);
	} else if (t->flags & THREAD_DEAD) {
		if (t->pid == fresh->pid)
			add_totals(fresh, t);
		else
			count_drop(DROP_THREADS_UNTRACKED);
		threads.update(&tid, fresh);
	}
}

#endif
