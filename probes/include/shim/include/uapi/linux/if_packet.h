/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by bcc's helpers.h; tracing programs see no packets. */
