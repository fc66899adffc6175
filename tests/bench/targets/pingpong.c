// SPDX-License-Identifier: Apache-2.0
// Two threads hand a token to each other through eventfds: two context switches a round trip when they share a CPU.
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Hands the token over and waits for it, until `until_ns` (CLOCK_MONOTONIC) or for `trips` round trips. Computes in
// between so that a trip takes `period_ns`; 0: as fast as it can. Returns the trips, negative: an error.
int64_t ping(int to, int from, int64_t trips, int64_t period_ns, int64_t until_ns)
{
	uint64_t token = 1;
	int64_t done = 0, next = now_ns();

	for (; done < trips; done++) {
		if ((period_ns || !(done & 63)) && now_ns() >= until_ns)
			break;
		if (write(to, &token, 8) != 8 || read(from, &token, 8) != 8)
			return -1;
		token = 1;
		if (!period_ns)
			continue;
		next += period_ns;
		if (next < now_ns())    // late: do not catch up in a burst
			next = now_ns();
		while (now_ns() < next)
			;
	}
	return done;
}

// Waits for the token and hands it back, for ever.
void pong(int from, int to)
{
	uint64_t token;

	while (read(from, &token, 8) == 8) {
		token = 1;
		if (write(to, &token, 8) != 8)
			return;
	}
}
