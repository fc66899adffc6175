/* SPDX-License-Identifier: GPL-2.0-only */
/* No kernel is described here: probes ask BTF (passed as -D) and the host's capabilities, not the version. */
#ifndef EXCISE_SHIM_VERSION_H
#define EXCISE_SHIM_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))

/* Chooses among helpers that bcc knows: tracing programs look at license and helpers, not at this. 5.8, the oldest
 * kernel with the ring buffer. */
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 8, 0)
#endif

#endif
