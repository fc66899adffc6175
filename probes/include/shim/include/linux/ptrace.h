/* SPDX-License-Identifier: GPL-2.0-only */
/* Saved user registers. */
#include <uapi/linux/ptrace.h>
