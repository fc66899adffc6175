// SPDX-License-Identifier: GPL-2.0-only
// Which processes and threads are watched, where records go, what was lost, what it cost.
//
// bcc dialect: kernel structures are never named; their few offsets come from BTF as -DOFF_*.
// Everything dies with the agent: nothing is pinned.
#ifndef EXCISE_MAPS_H
#define EXCISE_MAPS_H

#include "records.h"

#define FD_BYTE_NONE 255
#define FD_BYTE_LARGE 254

// What a blocking thread waits for.
struct wait {
	u8 state;
	u8 fd_class;
	u8 fd;
	u8 flags;
	s16 syscall;
	u16 port;
	u64 ip;
};

// Frames of one thread lie side by side in its data stack, callers below: one read fetches several of them.
#define WINDOW 1024
#define USER_PAGE 4096

// A frame is read whole (f_size <= 96) and so is the part of the code object that makes its key
// (co_span <= 120). Both are then indexed with offsets masked by 127, so each needs 127 + 8 bytes.
struct scratch {
	u64 window_at;                          // what `window` holds of the thread's memory, and how much
	u64 window_bytes;
	u8 window[WINDOW + 144];
	u8 code[144];
	u8 name[80];
	u64 kernel_ips[MAX_KERNEL_FRAMES];
	struct rec_slice sample;                // these two here and not on the stack: there their
	struct wait wait;                       // zeros would be state that the verifier tells apart
	struct rec_stack head;                  // head and frames leave together, as one record
	struct py_frame frames[MAX_PY_FRAMES + 2];
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_HASH(procs, u32, struct proc, MAX_PROCS);
BPF_HASH(threads, u32, struct thread, MAX_THREADS);
BPF_TABLE("lru_hash", u64, u32, stacks, MAX_STACKS);    // stacks that the ring has already carried
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
BPF_PERCPU_ARRAY(drops, u64, N_DROPS);
BPF_PERCPU_ARRAY(costs, struct cost, N_PROGS);
BPF_ARRAY(controls, struct control, 1);                 // what the governor has set
BPF_ARRAY(watched, u64, WATCHED_SLOTS);                 // by tid, modulo: 0 where no watched thread is

// For what hangs directly on bpf_get_current_task_btf() or bpf_task_pt_regs(): the verifier knows the type, so the load
// needs no call. An offset that holds no 8-byte field of that type is refused when loading.
static inline u64 typed_u64(u64 at)
{
	return *(volatile u64 *)at;
}

static inline u32 typed_u32(u64 at)
{
	return *(volatile u32 *)at;
}

static inline u64 kernel_u64(u64 at)
{
	u64 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), (void *)at);
	return v;
}

static inline u32 kernel_u32(u64 at)
{
	u32 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), (void *)at);
	return v;
}

static inline u16 kernel_u16(u64 at)
{
	u16 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), (void *)at);
	return v;
}

// Fields of a task that a tracepoint gave us: typed where the programs are loaded with the kernel's types (TYPED), which
// saves a call for each (20 ns).
#if TYPED
#define task_u64 typed_u64
#define task_u32 typed_u32
#else
#define task_u64 kernel_u64
#define task_u32 kernel_u32
#endif

// Most switches of a host are of threads that nobody watches. An array's look-up is inlined by the kernel's compiler and
// a hash's is not: 3 ns against 25. A slot may be shared or stale: then the hash decides.
static inline int maybe_watched(u32 tid)
{
#if NS_INO
	return 1;       // here threads have other numbers than the host's
#else
	u32 slot = tid & (WATCHED_SLOTS - 1);
	u64 *mark = watched.lookup(&slot);

	return mark && *mark;
#endif
}

static inline void mark_watched(u32 tid)
{
	u32 slot = tid & (WATCHED_SLOTS - 1);
	u64 *mark = watched.lookup(&slot);

	if (mark)
		*mark = 1;
}

static inline void count_drop(int which)
{
	u64 *n = drops.lookup(&which);

	if (n)
		*n += 1;
}

static inline struct control *control(void)
{
	int zero = 0;

	return controls.lookup(&zero);
}

static inline struct cost *cost_of(int program)
{
	return costs.lookup(&program);
}

// Times one run in 64: bpf_stats would need a capability that the service does not have.
static inline u64 cost_begin(struct cost *c)
{
	if (!c)
		return 0;
	c->runs += 1;
	return (c->runs & 63) ? 0 : bpf_ktime_get_ns();
}

static inline void cost_end(struct cost *c, u64 begin)
{
	if (!c || !begin)
		return;
	c->timed_runs += 1;
	c->timed_ns += bpf_ktime_get_ns() - begin;
}

// Not for programs whose record must not be lost silently: the caller learns that it was.
static inline int emit(void *record, u64 size)
{
	int err;

#ifdef DROP_ONE_IN      // for tests: loses records at will, as a ring does that is too small
	if (bpf_get_prandom_u32() % DROP_ONE_IN == 0) {
		count_drop(DROP_RING_FULL);
		return -1;
	}
#endif
	err = ring.ringbuf_output(record, size, BPF_RB_NO_WAKEUP);
	if (err)
		count_drop(DROP_RING_FULL);
	return err;
}

static inline u64 mix(u64 h, u64 x)
{
	return (h ^ x) * 0x9E3779B97F4A7C15ULL;
}

// Single writer per thread: switch-out and switch-in of one task are ordered by the scheduler. A reader
// takes `done` first and `started` last, so equal values mean that no update overlapped its copy.
static inline void thread_begin(struct thread *t)
{
	t->started += 1;
	asm volatile("" ::: "memory");
}

static inline void thread_end(struct thread *t)
{
	asm volatile("" ::: "memory");
	t->done = t->started;
}

// Closes the running interval into the state that the thread was in.
static inline void thread_close(struct thread *t, u64 now)
{
	u32 state = t->state;

	if (state < N_KSTATES && now > t->since_ns)
		t->state_ns[state] += now - t->since_ns;
	t->since_ns = now;
}

#endif
