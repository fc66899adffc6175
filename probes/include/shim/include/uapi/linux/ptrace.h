/* SPDX-License-Identifier: GPL-2.0-only */
/* Saved user registers. */
#ifndef EXCISE_SHIM_UAPI_PTRACE_H
#define EXCISE_SHIM_UAPI_PTRACE_H

#include <asm/ptrace.h>

#endif
