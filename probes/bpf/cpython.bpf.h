// SPDX-License-Identifier: GPL-2.0-only
// Walks the frames of a CPython thread (3.10 to 3.14), with or without the GIL.
//
// The thread state comes from glibc's thread-specific data (autoTSSkey), which holds it also while the GIL is
// released; _Py_tss_tstate would be NULL then. Memory of the target is hostile: every read may fail, every loop
// is bounded. A frame's key is read together with its address: a freed and reused code object has another key.
#ifndef EXCISE_CPYTHON_H
#define EXCISE_CPYTHON_H

#include "maps.bpf.h"

#define NONE16 0xffff
#define FRAME_OWNER_SHIM 3      // FRAME_OWNED_BY_CSTACK and above: an interpreter's own frame, no Python code

static inline u64 python_tstate(struct proc *p, u64 task)
{
	u64 fsbase, tstate = 0, at;

	fsbase = typed_u64(task + OFF_FSBASE);
	if (!fsbase)
		return 0;
	if (p->tls_tstate)
		at = fsbase + (s64)p->tls_tstate;
	else if (p->tss_first_block)
		at = fsbase + p->tss_first_block + 16 * (u64)p->tss_key + 8;    // struct { seq; data; }
	else
		return 0;
	bpf_probe_read_user(&tstate, sizeof(tstate), (void *)at);
	return tstate;
}

static inline u32 python_key(struct scratch *s, struct proc *p, u64 code)
{
	u64 h, linetable, qualname, filename;
	u32 span = p->co_span & 127, base = p->co_base;

	if (bpf_probe_read_user(s->code, span, (void *)(code + base)))
		return 0;
	linetable = *(u64 *)(s->code + ((p->co_linetable - base) & 127));
	qualname = *(u64 *)(s->code + ((p->co_qualname - base) & 127));
	filename = *(u64 *)(s->code + ((p->co_filename - base) & 127));
	h = mix(0, *(u32 *)(s->code + ((p->co_firstlineno - base) & 127)));
	h = mix(h, linetable);
	h = mix(h, qualname);
	h = mix(h, filename);
	if (p->co_version != NONE16) {
		h = mix(h, *(u32 *)(s->code + ((p->co_version - base) & 127)));
	} else {
		// no version in the code object: the name itself tells two functions at one address apart
		u32 data = (p->str_data - p->str_length) & 63;

		if (bpf_probe_read_user(s->name, data + 16, (void *)(qualname + p->str_length)))
			return 0;
		h = mix(h, *(u64 *)s->name);
		h = mix(h, *(u64 *)(s->name + data));
		h = mix(h, *(u64 *)(s->name + data + 8));
	}
	return h >> 32;
}

// The frame at this address as an offset into the window, which is moved there if it does not hold it; negative: its
// memory is not there. The window stays within the pages that the frame itself is in, so it is mapped where that is.
static inline s64 python_frame(struct scratch *s, u64 frame, u32 size)
{
	u64 off = frame - s->window_at, start = frame & ~(u64)(USER_PAGE - 1), bytes;

	if (off >= WINDOW || off + size > s->window_bytes) {
		if (frame + size - start > WINDOW)
			start = frame + size - WINDOW;
		bytes = frame + size - start;
		asm volatile("" : "+r"(bytes));
		if (bytes > WINDOW)
			return -1;
		s->window_bytes = 0;
		if (bpf_probe_read_user(s->window, bytes, (void *)start))
			return -1;
		s->window_at = start;
		s->window_bytes = bytes;
		off = frame - start;
	}
	return off & (WINDOW - 1);
}

// Returns the hash of the chain and sends its definition when the ring has not carried it yet; 0: no chain.
static inline u64 python_stack(struct scratch *s, struct proc *p, u64 task, u32 pid, u32 tid)
{
	u64 frame, hash = p->seed, n, code, instr;
	u32 flags, mark = 1;
	int i;

	frame = python_tstate(p, task);
	if (!frame)
		return 0;
	if (bpf_probe_read_user(&frame, sizeof(frame), (void *)(frame + p->ts_frame)) || !frame)
		return 0;
	if (p->cframe_frame != NONE16 &&
	    bpf_probe_read_user(&frame, sizeof(frame), (void *)(frame + p->cframe_frame)))
		return 0;
	if (!frame)
		return 0;
	s->head.count = 0;
	s->head.flags = FLAG_CUT;
	s->window_bytes = 0;
	// What outlives an iteration goes through memory: the verifier then sees one state behind the loop, not 512.
	for (i = 0; i < MAX_PY_FRAMES; i++) {
		struct py_frame *out = &s->frames[i];
		s64 off = python_frame(s, frame, p->f_size & 127);
		u8 *f;

		if (off < 0)
			break;
		asm volatile("" : "+r"(off));
		f = s->window + (off & (WINDOW - 1));
		code = *(u64 *)(f + (p->f_code & 127)) & ~3ULL; // 3.14 tags the pointer
		if (p->f_owner != NONE16 && f[p->f_owner & 127] >= FRAME_OWNER_SHIM)
			code = 0;
		out->code = code;
		if (code) {
			out->key = python_key(s, p, code);
			instr = *(u64 *)(f + (p->f_instr & 127)) - (code + p->co_code_adaptive);
			if (p->co_code_adaptive == NONE16)
				instr = (u64)*(u32 *)(f + (p->f_instr & 127)) * 2;
			out->lasti = instr < 0x7fffffff ? instr : 0xffffffff;
			hash = mix(hash, code);
			hash = mix(hash, *(volatile u64 *)&out->key);   // lasti << 32 | key
			hash ^= hash >> 29;
		}
		s->head.count = i + 1;
		frame = *(u64 *)(f + (p->f_back & 127));
		if (!frame) {
			s->head.flags = 0;
			break;
		}
	}
	asm volatile("" ::: "memory");
	n = s->head.count;
	flags = s->head.flags;
	if (!n)
		return 0;
	if (flags)
		count_drop(n == MAX_PY_FRAMES ? DROP_WALK_TRUNCATED : DROP_WALK_FAULT);
	hash += flags;          // a cut chain is another stack than the whole one
	if (!hash)
		hash = 1;
	if (stacks.lookup(&hash))
		return hash;
	s->head.type = REC_STACK;
	s->head.kind = STACK_PYTHON;
	s->head.pad = 0;
	s->head.tid = tid;
	s->head.pid = pid;
	s->head.hash = hash;
	asm volatile("" : "+r"(n));
	if (n > MAX_PY_FRAMES)
		return 0;
	if (ring.ringbuf_output(&s->head, sizeof(s->head) + n * sizeof(struct py_frame), BPF_RB_NO_WAKEUP))
		count_drop(DROP_STACK_LOST);    // not marked as carried: the next record of this stack tries again
	else
		stacks.update(&hash, &mark);
	return hash;
}

#endif
