// A thread that holds the GIL and never gives it back, and overwrites what a profiler reads of its interpreter.
// It lives on whatever it writes: the interpreter does not run any more.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef uint64_t u64;
typedef uint8_t u8;

struct plan {
	u64 tstate, interp, runtime, code_type, code;
	u64 ts_frame, cframe_frame;             // cframe_frame -1: tstate holds the frame itself
	u64 ts_next, ts_interp, is_threads_head, is_next, runtime_interpreters_head;
	u64 f_code, f_back, f_instr, f_owner;   // f_owner -1: none
	u64 co_firstlineno, co_linetable, co_qualname, co_filename, co_code_adaptive;
	u64 str_length, str_state, str_data, bytes_size, bytes_data, ob_type;
};

enum { ARENA = 64 << 20, FRAMES = 512, FRAME = 128, CODE = 512, TEXT = 8192, TABLE = 120000 };  // no longer than is read

static u64 seed = 88172645463325252ULL;
static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static void put(u64 at, u64 value) { *(volatile u64 *)at = value; }
static void put32(u64 at, uint32_t value) { *(volatile uint32_t *)at = value; }

static void point(const struct plan *p, u64 cframe, u64 frame)
{
	if (p->cframe_frame == (u64)-1) {
		put(p->tstate + p->ts_frame, frame);
	} else {
		put(cframe + p->cframe_frame, frame);
		put(p->tstate + p->ts_frame, cframe);
	}
}

static u64 wild(u64 arena)
{
	static const u64 bad[] = {0, 1, 8, 0xfff, 0x1000, 0x7fffffffffffULL, 0x800000000000ULL, 0xffff800000000000ULL,
				  0xffffffff81000000ULL, 0xffffffffff600000ULL, ~0ULL, ~7ULL};
	u64 r = next_random();

	if (r % 4 == 0)
		return bad[next_random() % (sizeof(bad) / sizeof(*bad))];
	return r % 4 == 1 ? next_random() : arena + next_random() % (4 << 20);
}

static void pause_or_spin(long ns)
{
	struct timespec t = {0, ns};

	if (next_random() & 1)
		nanosleep(&t, NULL);
	else
		for (volatile int i = 0; i < 20000; i++)
			;
}

// Whatever bytes, with many pointers among them that lead to more of it, or nowhere.
static void scribble_random(const struct plan *p, u64 arena)
{
	for (int i = 0; i < 4 << 20; i += 8)
		put(arena + i, wild(arena));
	for (;;) {
		for (int i = 0; i < 200; i++)
			put(arena + next_random() % ((4 << 20) - 8), wild(arena));
		if (next_random() % 8 == 0) {   // now and then the pointers that everything begins with
			put(p->tstate + p->ts_frame, wild(arena));
			put(p->tstate + p->ts_next, wild(arena));
			put(p->tstate + p->ts_interp, wild(arena));
			put(p->interp + p->is_threads_head, next_random() & 1 ? p->tstate : wild(arena));
			put(p->interp + p->is_next, next_random() & 1 ? p->interp : wild(arena));
		} else {
			point(p, arena, wild(arena));
		}
		pause_or_spin(100000);
	}
}

// Frames in a circle, all of them real code.
static void scribble_cycle(const struct plan *p, u64 arena)
{
	for (u64 length = 1;; length = length % 7 + 1) {
		u64 first = arena + 4096;

		for (u64 i = 0; i < length; i++) {
			u64 frame = first + FRAME * i;

			memset((void *)frame, 0, FRAME);
			put(frame + p->f_code, p->code);
			put(frame + p->f_back, first + FRAME * ((i + 1) % length));
			put(frame + p->f_instr, p->code + p->co_code_adaptive + 2 * (next_random() % 64));
		}
		point(p, arena, first);
		pause_or_spin(100000);
	}
}

static u64 text_at(const struct plan *p, u64 at, u64 length)
{
	put(at, 1);
	put(at + p->str_length, length);
	put32(at + p->str_state, 1 << 2 | 1 << 5 | 1 << 6);     // one byte a character, compact, ASCII
	for (u64 i = 0; i < 2048; i++)
		((u8 *)(at + p->str_data))[i] = (u8)("\x1b[31m;<script>\n\"{}[/x]%s\\\t.."[next_random() % 28]);
	return at;
}

// Every stack is new, of 512 frames of code that is new, with names and line tables as long as they may be.
static void scribble_flood(const struct plan *p, u64 arena)
{
	u64 codes = arena + (1 << 20), table = arena + (8 << 20), frames = arena + 4096, text = arena + (24 << 20);

	put(table, 1);
	put(table + p->bytes_size, TABLE - 64);
	memset((void *)(table + p->bytes_data), 0xf8, TABLE - 64);      // no line, one unit; nothing is ever found
	for (u64 i = 0; i < FRAMES; i++)
		text_at(p, text + TEXT * i, i % 2 ? 0x7fffffff : 1000);
	for (uint32_t round = 0;; round++) {
		for (u64 i = 0; i < FRAMES; i++) {
			u64 frame = frames + FRAME * i, code = codes + CODE * i;

			memset((void *)frame, 0, FRAME);
			put(frame + p->f_code, code);
			put(frame + p->f_back, i == FRAMES - 1 ? 0 : frame + FRAME);
			put(frame + p->f_instr, code + p->co_code_adaptive + 0x7ffffff0);
			put(code, 1);
			put(code + p->ob_type, p->code_type);
			put32(code + p->co_firstlineno, round);
			put(code + p->co_linetable, table);
			put(code + p->co_qualname, text + TEXT * i);
			put(code + p->co_filename, text + TEXT * ((i + 1) % FRAMES));
		}
		point(p, arena, frames);
		pause_or_spin(2000000);
	}
}

// Lists of thread states and interpreters without an end.
static void scribble_lists(const struct plan *p, u64 arena)
{
	u64 step = 1024, count = (ARENA - (1 << 20)) / step;

	for (u64 i = 0; i < count; i++) {
		u64 state = arena + (1 << 20) + step * i;

		put(state + p->ts_interp, p->interp);
		put(state + p->ts_next, arena + (1 << 20) + step * ((i + 1) % count));
		put(state + p->ts_frame, arena);
	}
	put(p->tstate + p->ts_next, arena + (1 << 20));
	put(p->interp + p->is_next, p->interp);
	scribble_cycle(p, arena);
}

// For ever.
void scribble(const struct plan *p, int mode, u64 start)
{
	u64 arena = (u64)mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	seed ^= start * 0x9e3779b97f4a7c15ULL;
	switch (mode) {
	case 0: scribble_random(p, arena); break;
	case 1: scribble_cycle(p, arena); break;
	case 2: scribble_flood(p, arena); break;
	default: scribble_lists(p, arena);
	}
}
