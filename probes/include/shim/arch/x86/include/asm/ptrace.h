/* SPDX-License-Identifier: GPL-2.0-only */
/* The saved registers of x86-64, by the kernel's names: an ABI, also the context of uprobe programs. */
#ifndef EXCISE_SHIM_ASM_PTRACE_H
#define EXCISE_SHIM_ASM_PTRACE_H

struct pt_regs {
	unsigned long r15;
	unsigned long r14;
	unsigned long r13;
	unsigned long r12;
	unsigned long bp;
	unsigned long bx;
	unsigned long r11;
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax; /* syscall number on the way in; -1: not in a syscall */
	unsigned long ip;
	unsigned long cs;
	unsigned long flags;
	unsigned long sp;
	unsigned long ss;
};

#endif
