/* The workload of a lab guest: does what the board orders and counts what it got done.
 *
 * Two processes. The worker carries out the order: N threads that alternate `grain` dependent multiplications with one
 * synchronisation and then add one to a counter of their own on the board. The watcher publishes what the guest's
 * kernel says about itself (online CPUs, CPU time of the guest agent) and carries out the faults. They are separate
 * processes because the kernel_lock workload contends on the worker's descriptor table, and a watcher that opened its
 * files through the same table would starve with it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "board.h"

static volatile unsigned char *board;

static volatile uint64_t *field(size_t offset) { return (volatile uint64_t *)(board + offset); }
static uint64_t get(size_t offset) { return __atomic_load_n(field(offset), __ATOMIC_ACQUIRE); }
static void put(size_t offset, uint64_t value) { __atomic_store_n(field(offset), value, __ATOMIC_RELEASE); }

static void nap(long milliseconds)
{
	struct timespec t = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
	nanosleep(&t, NULL);
}

/* ---- the order being carried out: written by the controller before its threads start ---- */

static struct {
	uint64_t kind, threads, grain, pause, lock_rounds;
} order;
static int stopping;

static int stop_wanted(void) { return __atomic_load_n(&stopping, __ATOMIC_ACQUIRE); }

/* Multiplications that depend on each other: no compiler and no core can shorten or overlap them. */
static uint64_t work(uint64_t x, uint64_t steps)
{
	while (steps--) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

/* ---- synchronisations ---- */

static struct {
	uint32_t arrived __attribute__((aligned(64)));
	uint32_t generation __attribute__((aligned(64)));
} barrier;

static void futex(uint32_t *word, int operation, uint32_t value)
{
	syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* One barrier for both kinds: the last to arrive opens the next generation; the others spin for it or sleep. */
static void barrier_wait(int blocking)
{
	uint32_t mine = __atomic_load_n(&barrier.generation, __ATOMIC_ACQUIRE);
	if (__atomic_add_fetch(&barrier.arrived, 1, __ATOMIC_ACQ_REL) == order.threads) {
		__atomic_store_n(&barrier.arrived, 0, __ATOMIC_RELEASE);
		__atomic_add_fetch(&barrier.generation, 1, __ATOMIC_ACQ_REL);
		if (blocking)
			futex(&barrier.generation, FUTEX_WAKE, INT32_MAX);
		return;
	}
	while (__atomic_load_n(&barrier.generation, __ATOMIC_ACQUIRE) == mine && !stop_wanted()) {
		if (blocking)
			futex(&barrier.generation, FUTEX_WAIT, mine);
		else if (order.pause)
			__builtin_ia32_pause();
	}
}

/* dup and close take the spinlock of the descriptor table all threads of this process share. */
static void kernel_lock_rounds(void)
{
	for (uint64_t round = 0; round < order.lock_rounds && !stop_wanted(); round++) {
		int descriptor = dup(0);
		if (descriptor >= 0)
			close(descriptor);
	}
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *thread_main(void *argument)
{
	size_t counter = BOARD_COUNTERS + (size_t)(uintptr_t)argument * BOARD_COUNTER_STRIDE;
	uint64_t done = get(counter), x = counter;

	while (!stop_wanted()) {
		if (order.kind == BOARD_KIND_BLOCKING_MUTEX)
			pthread_mutex_lock(&mutex);
		x = work(x, order.grain);
		switch (order.kind) {
		case BOARD_KIND_KERNEL_LOCK: kernel_lock_rounds(); break;
		case BOARD_KIND_USER_SPIN: barrier_wait(0); break;
		case BOARD_KIND_BLOCKING_BARRIER: barrier_wait(1); break;
		case BOARD_KIND_BLOCKING_MUTEX: pthread_mutex_unlock(&mutex); break;
		default: break;
		}
		if (!stop_wanted())
			put(counter, ++done);
	}
	return (void *)(uintptr_t)x;
}

/* Starts the threads of every new order after the last of the old order's has ended. */
static void controller(void)
{
	static pthread_t threads[BOARD_MAXIMUM_THREADS];
	uint64_t running = 0, applied = 0;

	for (;;) {
		uint64_t wanted = get(BOARD_ORDER_SEQUENCE);
		if (wanted == applied) {
			nap(50);
			continue;
		}
		__atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
		__atomic_add_fetch(&barrier.generation, 1, __ATOMIC_ACQ_REL);
		futex(&barrier.generation, FUTEX_WAKE, INT32_MAX);
		for (uint64_t i = 0; i < running; i++)
			pthread_join(threads[i], NULL);

		order.kind = get(BOARD_ORDER_KIND);
		order.threads = get(BOARD_ORDER_THREADS);
		order.grain = get(BOARD_ORDER_GRAIN);
		order.pause = get(BOARD_ORDER_PAUSE);
		order.lock_rounds = get(BOARD_ORDER_LOCK_ROUNDS);
		if (order.kind == BOARD_KIND_IDLE)
			order.threads = 0;
		if (order.threads > BOARD_MAXIMUM_THREADS)
			order.threads = BOARD_MAXIMUM_THREADS;
		barrier.arrived = 0;
		__atomic_store_n(&stopping, 0, __ATOMIC_RELEASE);
		running = 0;
		while (running < order.threads &&
		       pthread_create(&threads[running], NULL, thread_main, (void *)(uintptr_t)running) == 0)
			running++;
		order.threads = running;
		applied = wanted;
		put(BOARD_APPLIED_SEQUENCE, applied);
	}
}

/* ---- the watcher ---- */

static ssize_t slurp(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -1;
	ssize_t length = read(file, text, size - 1);
	close(file);
	text[length > 0 ? length : 0] = '\0';
	return length;
}

/* "0-1,3" becomes 0b1011. */
static uint64_t mask_of(const char *list)
{
	uint64_t mask = 0;
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = first; cpu <= last && cpu < 64; cpu++)
			mask |= UINT64_C(1) << cpu;
		list = *end == ',' ? end + 1 : end;
	}
	return mask;
}

static uint64_t find_process(const char *name)
{
	char path[64], comm[64];
	uint64_t found = 0;
	DIR *directory = opendir("/proc");
	for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/comm", entry->d_name);
		if (slurp(path, comm, sizeof comm) > 0 && !strncmp(comm, name, strlen(name)))
			found = strtoull(entry->d_name, NULL, 10);
	}
	if (directory)
		closedir(directory);
	return found;
}

/* Sum of run and wait time over a process's threads; 0 when the process is gone. */
static int process_times(uint64_t pid, uint64_t *run_ns, uint64_t *wait_ns)
{
	char pattern[64], text[128];
	glob_t tasks;
	int count = 0;

	*run_ns = *wait_ns = 0;
	snprintf(pattern, sizeof pattern, "/proc/%llu/task/*/schedstat", (unsigned long long)pid);
	if (glob(pattern, GLOB_NOSORT, NULL, &tasks) == 0) {
		for (size_t i = 0; i < tasks.gl_pathc; i++) {
			unsigned long long run, wait;
			if (slurp(tasks.gl_pathv[i], text, sizeof text) > 0 && sscanf(text, "%llu %llu", &run, &wait) == 2) {
				*run_ns += run;
				*wait_ns += wait;
				count++;
			}
		}
	}
	globfree(&tasks);
	return count;
}

/* Admission control of SCHED_DEADLINE: with 90 % of every CPU promised away, the kernel refuses to lose one. */
struct deadline_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void refuse_offline(int wanted)
{
	static pid_t holders[BOARD_MAXIMUM_THREADS];
	static int count;

	if (wanted && !count) {
		int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
		for (; count < cpus && count < BOARD_MAXIMUM_THREADS; count++) {
			holders[count] = fork();
			if (holders[count] == 0) {
				struct deadline_attributes a = {.size = sizeof a, .policy = 6, .runtime = 900000000,
								.deadline = 1000000000, .period = 1000000000};
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				if (syscall(SYS_sched_setattr, 0, &a, 0) != 0)
					dprintf(1, "lab: no deadline bandwidth: %s\n", strerror(errno));
				for (;;)
					pause();
			}
		}
	} else if (!wanted) {
		while (count > 0)
			kill(holders[--count], SIGKILL);
	}
}

static void carry_out_faults(uint64_t reboot_request, uint64_t agent)
{
	if (get(BOARD_REBOOT_REQUEST) != reboot_request)
		reboot(RB_AUTOBOOT);
	if (get(BOARD_AGENT_OFF)) {
		int file = open("/run/agent.off", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (file >= 0)
			close(file);
		if (agent)
			kill((pid_t)agent, SIGKILL);
	} else {
		unlink("/run/agent.off");
	}
	refuse_offline(get(BOARD_OFFLINE_REFUSED) != 0);
}

static void watcher(uint64_t reboot_request)
{
	char text[256];
	uint64_t agent = 0, run_ns, wait_ns;
	struct timespec now;

	setpriority(PRIO_PROCESS, 0, -20);
	signal(SIGCHLD, SIG_IGN);
	for (uint64_t tick = 1;; tick++) {
		if (slurp("/sys/devices/system/cpu/online", text, sizeof text) > 0)
			put(BOARD_ONLINE_MASK, mask_of(text));
		if (!agent || !process_times(agent, &run_ns, &wait_ns)) {
			/* Where no agent can be, on Xen, searching the processes again and again would be the guest's main work. */
			agent = access("/sys/class/virtio-ports", F_OK) == 0 ? find_process("qemu-ga") : 0;
			if (!agent || !process_times(agent, &run_ns, &wait_ns))
				agent = run_ns = wait_ns = 0;
		}
		put(BOARD_AGENT_RUN_NS, run_ns);
		put(BOARD_AGENT_WAIT_NS, wait_ns);
		put(BOARD_AGENT_PID, agent);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
		put(BOARD_WATCHER_RUN_NS, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
		clock_gettime(CLOCK_MONOTONIC, &now);
		put(BOARD_GUEST_MONOTONIC_NS, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
		put(BOARD_WATCHER_TICKS, tick);
		carry_out_faults(reboot_request, agent);
		nap(200);
	}
}

/* ---- start ---- */

int main(int argc, char **argv)
{
	char text[64] = "";
	uint64_t halves[2] = {0, 0};
	int digits = 0;

	board = board_map();
	if (!board) {
		dprintf(1, "lab: no board found\n");
		return 1;
	}
	slurp("/proc/sys/kernel/random/boot_id", text, sizeof text);
	for (const char *c = text; *c && digits < 32; c++) {
		if (*c == '-' || *c == '\n')
			continue;
		uint64_t digit = (uint64_t)(*c <= '9' ? *c - '0' : *c - 'a' + 10);
		halves[digits / 16] = halves[digits / 16] << 4 | digit;
		digits++;
	}
	put(BOARD_BOOT_ID_HIGH, halves[0]);
	put(BOARD_BOOT_ID_LOW, halves[1]);
	put(BOARD_HISTOGRAM_STATUS, argc > 1 ? strtoull(argv[1], NULL, 10) : 255);
	put(BOARD_APPLIED_SEQUENCE, 0);
	put(BOARD_BOOTS, get(BOARD_BOOTS) + 1);

	uint64_t reboot_request = get(BOARD_REBOOT_REQUEST);
	pid_t child = fork();
	if (child == 0)
		watcher(reboot_request);
	put(BOARD_GUEST_MAGIC, BOARD_MAGIC);
	dprintf(1, "lab: ready\n");
	controller();
	return 0;
}
