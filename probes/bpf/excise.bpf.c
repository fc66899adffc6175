// SPDX-License-Identifier: GPL-2.0-only
// The programs' entry points. One module: its maps are shared (and compiling one is faster than seven).
// The agent puts the *.bpf.h in place before bcc sees the text: bcc rewrites map calls in the main file only.
#include "maps.bpf.h"
#include "ids.bpf.h"
#include "cpython.bpf.h"
#include "waits.bpf.h"
#include "cpu.bpf.h"
#include "sched.bpf.h"
#include "tasks.bpf.h"

int on_cpu(struct bpf_perf_event_data *ctx)
{
	u64 id = current_ids();
	struct cost *c;
	u64 begin;

	if (!(u32)id)           // an idle CPU
		return 0;
	c = cost_of(PROG_CPU);
	begin = cost_begin(c);
	sample(ctx, id >> 32, id);
	cost_end(c, begin);
	return 0;
}

// TP_PROTO(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state);
// the fourth exists since 5.18, before it prev->__state is read.
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct cost *c = cost_of(PROG_SWITCH);
	u64 begin = cost_begin(c), id = current_ids(), now = 0;
#if HAVE_PREV_STATE
	u64 prev_state = (u32)ctx->args[3];
#else
	u64 prev_state = kernel_u32(ctx->args[1] + OFF_TASK_STATE);
#endif
	u32 prev = id, next = task_tid(ctx->args[2]);
	struct thread *t;

	// One time for both sides: what the walk takes is then the next thread's, as the scheduler counts it.
	if (prev && maybe_watched(prev)) {
		t = threads.lookup(&prev);
		if (t) {
			now = bpf_ktime_get_ns();
			switch_out(t, id >> 32, prev, ctx->args[0] & 1, prev_state, now);
		}
	}
	if (next && maybe_watched(next)) {
		t = threads.lookup(&next);
		if (t) {
			if (!now)
				now = bpf_ktime_get_ns();
			switch_in(t, next, ctx->args[2], now);
		}
	}
	cost_end(c, begin);
	return 0;
}

// TP_PROTO(struct task_struct *p): runs in the waker. Says who; when is on_wakeup's to say.
int on_waking(struct bpf_raw_tracepoint_args *ctx)
{
	struct cost *c = cost_of(PROG_WAKING);
	u64 begin = cost_begin(c);
	u32 tid = task_tid(ctx->args[0]);
	struct thread *t = maybe_watched(tid) ? threads.lookup(&tid) : 0;

	if (t) {
		u32 waker = current_ids();
		u64 regs = bpf_task_pt_regs(bpf_get_current_task_btf());

		if (!waker || (s64)typed_u64(regs + REG_ORIG_AX) < 0)
			waker = WAKER_IRQ;      // an idle CPU, or a thread that was in user mode, was interrupted
		t->waker = waker;
	}
	cost_end(c, begin);
	return 0;
}

// TP_PROTO(struct task_struct *p): it is on a run queue now. Not sched_waking's time: between the two lies the
// interrupt that tells another CPU, in a virtual machine tens of microseconds, and the scheduler's own count of
// run-queue delay begins here. Traced only for a task that is about to sleep or asleep.
int on_wakeup(struct bpf_raw_tracepoint_args *ctx)
{
	struct cost *c = cost_of(PROG_WAKEUP);
	u64 begin = cost_begin(c);
	u32 tid = task_tid(ctx->args[0]);
	struct thread *t = maybe_watched(tid) ? threads.lookup(&tid) : 0;

	if (t)
		t->wake_ns = bpf_ktime_get_ns();
	cost_end(c, begin);
	return 0;
}

// TP_PROTO(struct task_struct *parent, struct task_struct *child)
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct cost *c = cost_of(PROG_TASK);
	u64 begin = cost_begin(c);
	u32 parent = current_ids() >> 32;
	struct proc *p = procs.lookup(&parent);

	if (p) {
		u32 tid = raw_tid(ctx->args[1]);
		u32 pid = raw_pid(ctx->args[1]);
		struct control *control_now = control();
		struct thread t = {};

		if (pid == parent || (p->flags & PROC_CHILDREN)) {
			if (pid != parent) {
				struct proc copy = *p;  // the same image at the same addresses

				if (procs.update(&pid, &copy))
					count_drop(DROP_PROCS_UNTRACKED);
				emit_task(TASK_FORK, pid, tid, parent);
			}
			t.pid = pid;
			t.state = KSTATE_RUNNABLE;
			t.fd = FD_BYTE_NONE;
			t.syscall = -1;
			t.born_ns = t.since_ns = bpf_ktime_get_ns();
			t.phase = control_now ? control_now->phase : 0;
			t.weight = WEIGHT_ONE;
			mark_watched(tid);
			if (threads.insert(&tid, &t))
				reuse_thread(tid, &t);
		}
	}
	cost_end(c, begin);
	return 0;
}

// TP_PROTO(struct task_struct *p): from here on the new thread wants a CPU.
int on_wakeup_new(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = raw_tid(ctx->args[0]);
	struct thread *t = threads.lookup(&tid);

	if (t && t->state == KSTATE_RUNNABLE && !t->in_ns)
		t->born_ns = t->since_ns = bpf_ktime_get_ns();
	return 0;
}

// TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm): the old image's offsets are void.
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 id = current_ids();
	u32 pid = id >> 32, tid = id, old = ctx->args[1];
	struct proc *p = procs.lookup(&pid);
	struct thread *t, *leader, whole;

	if (!p)
		return 0;
	p->version = 0;
	p->runtime_addr = p->runtime_size = 0;
	p->flags |= PROC_EXECED;
	if (old != tid) {               // another thread than the leader called exec and took its number
		t = threads.lookup(&old);
		leader = threads.lookup(&tid);
		if (t) {
			whole = *t;
			whole.flags |= THREAD_RENUMBERED;
			if (leader)
				add_totals(&whole, leader);
			threads.update(&tid, &whole);
			threads.delete(&old);
		}
	}
	t = threads.lookup(&tid);
	if (t)
		t->flags &= ~THREAD_CARRIER;
	emit_task(TASK_EXEC, pid, tid, 0);
	return 0;
}

// TP_PROTO(struct task_struct *p, bool group_dead): the last word; the thread's own end is its last switch-out.
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 id = current_ids();
	u32 pid = id >> 32, tid = id;
	struct thread *t;

	if (!procs.lookup(&pid))
		return 0;
	t = threads.lookup(&tid);
	if (t) {        // its last switch-out says more, unless the switch hooks are off then
		u64 task = bpf_get_current_task_btf();

		t->end_ns = bpf_ktime_get_ns();
		t->end_exec_ns = typed_u64(task + OFF_SUM_EXEC);
		t->end_delay_ns = typed_u64(task + OFF_RUN_DELAY);
	}
	if (pid == tid)
		emit_task(TASK_EXIT, pid, tid, 0);
	return 0;
}
