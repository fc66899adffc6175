/* SPDX-License-Identifier: GPL-2.0-only */
/* roundup_pow_of_two: bcc sizes stack-trace and ring tables with it. */
#ifndef EXCISE_SHIM_LOG2_H
#define EXCISE_SHIM_LOG2_H

/* Constant argument, as in every use; 0 and 1 give 1. */
#define roundup_pow_of_two(n) ((n) <= 1UL ? 1UL : 1UL << (64 - __builtin_clzll((unsigned long long)(n) - 1)))

#endif
