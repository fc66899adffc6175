/* SPDX-License-Identifier: GPL-2.0-only */
/* Size of a page: bcc's ring tables are sized in it. */
#ifndef EXCISE_SHIM_PAGE_H
#define EXCISE_SHIM_PAGE_H

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#endif
