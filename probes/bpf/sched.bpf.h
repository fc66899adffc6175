// SPDX-License-Identifier: GPL-2.0-only
// sched_switch and sched_waking: exact time per (thread, state), and one record per ended wait with the stack
// at the moment of blocking. Loaded as raw tracepoints: the task pointers are needed.
#ifndef EXCISE_SCHED_H
#define EXCISE_SCHED_H

#include "cpython.bpf.h"
#include "ids.bpf.h"
#include "waits.bpf.h"

#define TASK_STATE_MASK 0xff    // above are modifiers: TASK_NOLOAD 0x400, TASK_FREEZABLE 0x2000
#define TASK_DEAD_BIT 0x80
#define STOLEN_NS 50000
#define ABSURD_NS 100000000       // the scheduler's count and the wall clock cannot differ by that
#define SHORT_WAIT_NS 100000    // all that are shorter are walked alike, one in `walk_one_in`
#define THINNEST 1024           // no record stands for more of its kind than so many

static inline void thread_add(struct thread *t, u64 state, u64 ns)
{
	asm volatile("" : "+r"(state)); // or clang checks a copy of it
	if (state < N_KSTATES)
		t->state_ns[state] += ns;
}

static inline void thread_remember(struct thread *t, u64 state, u64 ns)
{
	u64 us = ns / 1000;

	asm volatile("" : "+r"(state));
	if (state < N_KSTATES)
		t->last_wait_us[state] = us < 0xffffffff ? us : 0xffffffff;
}

// A thread that was born under watch began with the scheduler's counts at zero.
static inline int scheduler_known(struct thread *t)
{
	return t->exec_ns || !(t->flags & THREAD_SNAPSHOT);
}

// Closes the running interval with what the scheduler itself counted for it, which is up to date at a switch-out:
// its clock leaves out time that a hypervisor stole, and it reads that clock a little before this tracepoint. The
// sum stays the wall clock's: a small difference goes to the wait before, a large one was stolen.
static inline void close_running(struct thread *t, u64 task, u64 now)
{
	u64 exec = typed_u64(task + OFF_SUM_EXEC), delay = typed_u64(task + OFF_RUN_DELAY);
	u64 wall = now - t->since_ns, ran = exec - t->exec_ns, waited = delay - t->delay_ns;
	u32 before = t->last_state, state = t->state;
	s64 rest;

	if (state != KSTATE_RUNNING && scheduler_known(t)) {
		// Its switch-in was not traced (seen: from a kernel thread of this host, by no tracer at all).
		// The scheduler counted all the same; what it did not count was the wait.
		count_drop(DROP_SWITCH_MISSED);
		t->state_ns[KSTATE_RUNNING] += ran;
		t->state_ns[KSTATE_RUNNABLE] += waited;
		thread_add(t, state, wall - ran - waited);
		t->since_ns = now;
	} else if (state != KSTATE_RUNNING || !t->exec_ns || !t->in_ns || ran > wall + ABSURD_NS ||
		   before >= N_KSTATES) {
		thread_close(t, now);
	} else {
		rest = (s64)(wall + t->last_delay_ns) - (s64)(ran + waited);
		t->state_ns[KSTATE_RUNNING] += ran;
		t->state_ns[KSTATE_RUNNABLE] += waited - t->last_delay_ns;
		// What the scheduler's clock lost to the hypervisor in one slice it may make up for in the next: both
		// are of that account, and the run queue's stays the scheduler's.
		if (rest > STOLEN_NS || rest < -STOLEN_NS)
			before = KSTATE_STOLEN;
		else if (before == KSTATE_RUNNABLE)
			before = KSTATE_RUNNING;
		t->state_ns[before] += rest;
		t->since_ns = now;
	}
	t->exec_ns = exec;
	t->delay_ns = delay;
}

// The hooks were off: what it did meanwhile is not ours to say. It is in `state` from `now` on.
static inline void thread_rejoin(struct thread *t, struct control *c, u32 state, u64 now)
{
	t->state = state;
	t->phase = c->phase;
	t->since_ns = t->in_ns = now;
	t->last_state = N_KSTATES;      // the scheduler's counts cannot be compared with the clock
	t->weight = 0;
}

// What the record of this switch-out will stand for; 0: it is not walked. The chance is in proportion to how long the
// thread's last wait in this state was: the sums' errors are smallest so, and no hole is left where a wait is long. What is
// chosen by is past and decides nothing about this wait's stage, so the sums are right on average.
static inline u32 walk_weight(struct thread *t, struct control *c, u32 state)
{
	u64 one_in = c->walk_one_in, expected = 0;

	if (one_in <= 1)
		return WEIGHT_ONE;
	asm volatile("" : "+r"(state)); // or clang checks a copy of it
	if (state < N_KSTATES)
		expected = (u64)t->last_wait_us[state] * 1000;
	if (expected < SHORT_WAIT_NS)
		expected = SHORT_WAIT_NS;
	if (expected >= one_in * SHORT_WAIT_NS)
		return WEIGHT_ONE;
	// u32 random numbers are below expected / (one_in x SHORT) of their range with just that chance
	if ((u64)bpf_get_prandom_u32() * one_in * SHORT_WAIT_NS >= expected << 32)
		return 0;
	return (one_in * SHORT_WAIT_NS * WEIGHT_ONE + expected / 2) / expected;
}

// The same for its length, which is known now: 0 with the probability 1 - d / T, else more by T / d.
static inline u32 block_weight(u32 weight, struct control *c, u64 ns)
{
	u64 least = c->block_ns;

	if (!weight || ns >= least)
		return weight;
	if (ns < least / THINNEST)
		ns = least / THINNEST;
	if (!ns || bpf_get_prandom_u32() * least >= ns << 32)
		return 0;
	return weight * least / ns;
}

// `current` is still the task that leaves: its user memory reads fine.
static inline void switch_out(struct thread *t, u32 pid, u32 tid, int preempt, u64 prev_state, u64 now)
{
	struct control *c = control();
	struct proc *p;
	struct scratch *s;
	struct wait *w;
	u64 task, regs, stack = 0;
	u32 weight;
	int zero = 0;

	task = bpf_get_current_task_btf();
	prev_state &= TASK_STATE_MASK;
	if (!c)
		return;
	if (t->phase != c->phase)
		thread_rejoin(t, c, KSTATE_RUNNING, now);
	if (prev_state & TASK_DEAD_BIT) {
		thread_begin(t);
		close_running(t, task, now);
		t->flags |= THREAD_DEAD;
		thread_end(t);
		return;
	}
	s = scratches.lookup(&zero);
	if (!s)
		return;
	w = &s->wait;
	__builtin_memset(w, 0, sizeof(*w));
	w->syscall = -1;
	w->fd = FD_BYTE_NONE;
	w->state = KSTATE_RUNNABLE;
	regs = bpf_task_pt_regs(task);
	w->ip = typed_u64(regs + REG_IP);
	p = procs.lookup(&pid);
	if (!preempt && prev_state)
		classify_wait(w, p, task, regs, prev_state);
	weight = walk_weight(t, c, w->state);
	if (weight && p && p->version)
		stack = python_stack(s, p, task, pid, tid);
	else if (weight && p && (p->flags & PROC_EXECED))
		count_drop(DROP_EXEC_GAP);
	thread_begin(t);
	close_running(t, task, now);
	t->weight = weight;
	t->state = w->state;
	t->fd_class = w->fd_class;
	t->fd = w->fd;
	t->syscall = w->syscall;
	t->port = w->port;
	t->wait_flags = w->flags;
	t->ip = w->ip;
	t->stack = stack;
#if NS_INO
	t->host_tid = bpf_get_current_pid_tgid();
#endif
	if (stack)
		t->flags |= THREAD_CARRIER;
	else if (!weight && !(t->flags & THREAD_CARRIER) && p && p->version && python_tstate(p, task))
		t->flags |= THREAD_CARRIER;     // not walked, but it has a thread state: it runs Python
	thread_end(t);
}

// First seen in this phase when it comes on a CPU: what it had waited in is read off its own registers.
static inline void switch_in_anew(struct thread *t, struct control *c, u64 task, u64 now)
{
	u64 woken = t->wake_ns, began = c->phase_ns;
	u32 state = KSTATE_RUNNABLE;
#if TYPED
	int zero = 0;
	u32 pid = t->pid;
	struct scratch *s = scratches.lookup(&zero);

	if (s && woken > began && woken <= now) {
		__builtin_memset(&s->wait, 0, sizeof(s->wait));
		classify_wait(&s->wait, procs.lookup(&pid), task, bpf_task_pt_regs(task), TASK_INTERRUPTIBLE_BIT);
		state = s->wait.state;
	}
#endif
	thread_begin(t);
	thread_rejoin(t, c, state, began);
	if (state != KSTATE_RUNNABLE)
		thread_close(t, woken);
	t->state = KSTATE_RUNNABLE;
	thread_close(t, now);
	t->state = KSTATE_RUNNING;
	t->in_ns = now;
	thread_end(t);
}

static inline void switch_in(struct thread *t, u32 tid, u64 task, u64 now)
{
	struct control *c = control();
	struct rec_slice r = {};
	u64 woken, ran;

	if (!c)
		return;
	if (t->phase != c->phase) {
		switch_in_anew(t, c, task, now);
		return;
	}

	r.type = REC_WAIT;
	r.state = t->state;
	r.flags = t->wait_flags;
	r.fd_class = t->fd_class;
	r.tid = tid;
	r.pid = t->pid;
	r.syscall = t->syscall;
	r.port = t->port;
	r.fd = t->fd;
	r.ts_ns = now;
	r.stack = t->stack;
	r.ip = t->ip;
	thread_begin(t);
	if (t->state == KSTATE_RUNNING) {
		r.state = t->state = KSTATE_RUNNABLE;
		if (t->in_ns && scheduler_known(t)) {
			// Its switch-out was not traced. How long it ran before is the scheduler's to say.
			count_drop(DROP_SWITCH_MISSED);
			ran = task_u64(task + OFF_SUM_EXEC) - t->exec_ns;
			if (ran > now - t->since_ns)
				ran = now - t->since_ns;
			t->state_ns[KSTATE_RUNNING] += ran;
			t->since_ns += ran;
			t->exec_ns += ran;
		} else {        // the snapshot saw it wanting a CPU, and could not see which
			t->flags |= THREAD_WAS_RUNNABLE;
		}
	}
	woken = t->wake_ns;
	if (t->state != KSTATE_RUNNABLE && woken > t->in_ns) {
		// The last waking before a switch-in is the one that caused it. On another CPU it may come a
		// moment before the sleeper's own switch-out: then the thread was runnable from the start.
		if (woken < t->since_ns)
			woken = t->since_ns;
		if (woken > now)
			woken = now;
		r.waker = t->waker;
		r.value_ns = woken - t->since_ns;
		thread_close(t, woken);
		r.runnable_ns = now - woken;
		t->state_ns[KSTATE_RUNNABLE] += r.runnable_ns;
		t->since_ns = now;
	} else {
		r.value_ns = now > t->since_ns ? now - t->since_ns : 0;
		thread_close(t, now);
	}
	t->in_ns = now;
	t->last_state = r.state;
	t->last_delay_ns = r.state == KSTATE_RUNNABLE ? r.value_ns : r.runnable_ns;
	thread_remember(t, r.state, r.value_ns);
	t->state = KSTATE_RUNNING;
	r.weight = block_weight(t->weight, c, r.value_ns + r.runnable_ns);
	thread_end(t);
	if (r.weight)
		emit(&r, sizeof(r));
}

#endif
