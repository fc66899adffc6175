/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by bcc's proto.h; tracing programs see no packets. */
