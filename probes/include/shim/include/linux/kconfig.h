/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc includes this first into every program: the configuration that its helpers ask for, and the types. */
#ifndef EXCISE_SHIM_KCONFIG_H
#define EXCISE_SHIM_KCONFIG_H

/* What bcc's helpers.h tests for. Saying yes only declares; whether the kernel agrees is seen at load. */
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_BPF_EVENTS 1
#define CONFIG_PERF_EVENTS 1
#define CONFIG_UPROBE_EVENTS 1
#define CONFIG_TRACEPOINTS 1
#define CONFIG_64BIT 1
#define CONFIG_SMP 1

/* What the kernel's own kconfig.h offers to other headers. */
#define IS_ENABLED(option) 0
#define IS_BUILTIN(option) 0
#define IS_MODULE(option) 0

#include <linux/types.h>

#endif
