// SPDX-License-Identifier: GPL-2.0-only
// What a thread waits for, from its saved user registers at the moment it blocks: no per-syscall probe.
//
// System call numbers are x86-64's. The descriptor is read in the kernel (file -> inode -> mode, superblock magic,
// socket), because /proc would race with its reuse.
#ifndef EXCISE_WAITS_H
#define EXCISE_WAITS_H

#include "maps.bpf.h"

// struct pt_regs of x86-64, as bytes from its start (arch/x86/include/asm/ptrace.h)
#define REG_SI 104
#define REG_DI 112
#define REG_ORIG_AX 120
#define REG_IP 128
#define REG_CS 136

#define PIPEFS_MAGIC 0x50495045
#define SOCKFS_MAGIC 0x534F434B
#define MODE_TYPE 0170000
#define MODE_FIFO 0010000
#define MODE_CHR 0020000
#define MODE_DIR 0040000
#define MODE_BLK 0060000
#define MODE_REG 0100000
#define MODE_SOCK 0140000
#define FAMILY_UNIX 1
#define FAMILY_INET 2
#define FAMILY_INET6 10
#define TCP_STATE_LISTEN 10
#define NVIDIA_MAJOR 195
#define TASK_INTERRUPTIBLE_BIT 1
#define TASK_UNINTERRUPTIBLE_BIT 2

// Does the first argument of this call name the descriptor that it can block on?
static inline int takes_fd(s64 nr)
{
	if (nr == 0 || nr == 1 || nr == 16)                     // read write ioctl
		return 1;
	if (nr >= 17 && nr <= 20)                               // pread64 pwrite64 readv writev
		return 1;
	if (nr == 40 || (nr >= 42 && nr <= 47))                 // sendfile connect accept send* recv*
		return 1;
	if (nr >= 72 && nr <= 78)                               // fcntl flock fsync fdatasync ftruncate getdents
		return 1;
	if (nr == 217 || nr == 221 || nr == 232)                // getdents64 fadvise64 epoll_wait
		return 1;
	if (nr == 275 || nr == 277 || nr == 281 || nr == 285)   // splice sync_file_range epoll_pwait fallocate
		return 1;
	if (nr == 288 || nr == 295 || nr == 296 || nr == 299)   // accept4 preadv pwritev recvmmsg
		return 1;
	return nr == 307 || nr == 326 || nr == 327 || nr == 328 || nr == 441;
}

static inline void classify_socket(struct wait *w, u64 file)
{
	u64 sk = kernel_u64(kernel_u64(file + OFF_FILE_PRIVATE) + OFF_SOCKET_SK);
	u16 family = kernel_u16(sk + OFF_SK_FAMILY);

	w->state = KSTATE_NET;
	if (family == FAMILY_UNIX) {
		w->fd_class = FD_UNIX;
	} else if (family == FAMILY_INET || family == FAMILY_INET6) {
		w->fd_class = FD_INET;
		w->port = kernel_u16(sk + OFF_SK_NUM);
	} else {
		w->fd_class = FD_NETOTHER;
	}
	if ((kernel_u32(sk + OFF_SK_STATE) & 0xff) == TCP_STATE_LISTEN)
		w->fd_class = FD_LISTEN;
}

static inline void classify_fd(struct wait *w, u64 task, u64 fd, s64 nr)
{
	u64 fdt, file, inode;
	u32 mode, rdev, major;

	w->fd = fd < FD_BYTE_LARGE ? fd : FD_BYTE_LARGE;
	w->fd_class = FD_UNKNOWN;
	fdt = kernel_u64(kernel_u64(task + OFF_TASK_FILES) + OFF_FILES_FDT);
	if (fd >= kernel_u32(fdt + OFF_FDT_MAX))
		return;
	file = kernel_u64(kernel_u64(fdt + OFF_FDT_FD) + fd * 8);
	inode = kernel_u64(file + OFF_FILE_INODE);
	if (!file || !inode)
		return;
	mode = kernel_u16(inode + OFF_INODE_MODE) & MODE_TYPE;
	if (mode == MODE_REG || mode == MODE_DIR) {
		w->fd_class = FD_FILE;
		w->state = KSTATE_IO;
	} else if (mode == MODE_BLK) {
		w->fd_class = FD_BLOCK;
		w->state = KSTATE_IO;
	} else if (mode == MODE_FIFO) {
		w->fd_class = FD_PIPE;
		w->state = KSTATE_NET;
	} else if (mode == MODE_SOCK) {
		classify_socket(w, file);
	} else if (mode == MODE_CHR) {
		rdev = kernel_u32(inode + OFF_INODE_RDEV);
		major = rdev >> 20;
		if (major == NVIDIA_MAJOR || (NVIDIA_UVM_MAJOR && major == NVIDIA_UVM_MAJOR)) {
			w->fd_class = FD_NVIDIA;
			w->state = KSTATE_GPU;
		} else if (major == 4 || major == 5 || (major >= 136 && major <= 143)) {
			w->fd_class = FD_TTY;
			w->state = KSTATE_IO;
		} else {
			w->fd_class = FD_CHARDEV;
		}
	} else {        // an anonymous inode: its call tells what it is
		w->state = KSTATE_NET;
		if (nr == 232 || nr == 281 || nr == 441)
			w->fd_class = FD_EPOLL;
		else
			w->fd_class = nr <= 1 ? FD_EVENTFD : FD_ANON;
	}
}

// `prev_state` is the task's state as sched_switch tells it.
static inline void classify_wait(struct wait *w, struct proc *p, u64 task, u64 regs, u64 prev_state)
{
	s64 nr = (s64)typed_u64(regs + REG_ORIG_AX);
	u64 arg0 = typed_u64(regs + REG_DI);

	w->syscall = nr;
	w->state = KSTATE_OTHER;
	if (prev_state & (4 | 8)) {                             // __TASK_STOPPED, __TASK_TRACED
		w->state = KSTATE_STOPPED;
		return;
	}
	if (nr < 0 || nr > 1024) {
		w->syscall = -1;
		if (prev_state & TASK_UNINTERRUPTIBLE_BIT) {    // a page that had to be read
			w->state = KSTATE_IO;
			w->flags = FLAG_FAULT;
		}
		return;
	}
	if (nr == 202 || nr == 449 || nr == 455) {              // futex futex_waitv futex_wait
		w->state = KSTATE_LOCK;
		if (p && arg0 - p->runtime_addr < p->runtime_size)
			w->state = KSTATE_GIL;
		return;
	}
	if (nr == 7 || nr == 23 || nr == 270 || nr == 271) {    // poll select pselect6 ppoll
		u32 fds = nr == 7 || nr == 271 ? typed_u64(regs + REG_SI) : arg0;

		w->state = fds ? KSTATE_NET : KSTATE_SLEEP;     // nothing to wait for but the time
		return;
	}
	if (nr == 35 || nr == 230) {                            // nanosleep clock_nanosleep
		w->state = KSTATE_SLEEP;
		return;
	}
	if (prev_state & TASK_UNINTERRUPTIBLE_BIT)
		w->state = KSTATE_IO;
	if (takes_fd(nr))
		classify_fd(w, task, (u32)arg0, nr);
}

#endif
