/* SPDX-License-Identifier: GPL-2.0-only */
/* Empty: bcc has included its own copy, under another guard, before any program text. */
