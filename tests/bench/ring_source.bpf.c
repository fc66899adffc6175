// SPDX-License-Identifier: GPL-2.0-only
// Fills a ring with records of the real sizes, for the benchmark of who empties it. Never attached: run by
// BPF_PROG_TEST_RUN, BURST records a run. What the records hold is written by the benchmark.
#include "records.h"

struct definition {
	struct rec_stack head;
	struct py_frame frames[FRAMES];
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_ARRAY(slices, struct rec_slice, SLICES);    // a power of two
BPF_ARRAY(definitions, struct definition, 1);

int fill(struct bpf_raw_tracepoint_args *ctx)
{
	int i, zero = 0;

	for (i = 0; i < BURST; i++) {
		u32 random = bpf_get_prandom_u32();
		int at = random & (SLICES - 1);
		struct rec_slice *slice = slices.lookup(&at);
		struct definition *definition = definitions.lookup(&zero);

		if (!slice || !definition)
			return 0;
		if ((random >> 16) % 1000 < DEFINITIONS_IN_1000)
			ring.ringbuf_output(definition, sizeof(*definition), BPF_RB_NO_WAKEUP);
		else
			ring.ringbuf_output(slice, sizeof(*slice), BPF_RB_NO_WAKEUP);
	}
	return 0;
}
