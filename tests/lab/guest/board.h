/* The board: one shared page set between a guest of the lab and the host.
 *
 * The host maps the file behind the domain's ivshmem device, the guest maps the device's BAR 2. Every field is an
 * unsigned 64-bit little-endian integer at a fixed offset, written by one side only, so that no lock and no exit is
 * needed and a guest whose kernel makes no progress at all can still be read. board.py mirrors these numbers;
 * tests/unit/lab checks that the two agree.
 */
#ifndef VCPUD_LAB_BOARD_H
#define VCPUD_LAB_BOARD_H

#define BOARD_BYTES 1048576
#define BOARD_MAGIC 8314044361912411222
#define BOARD_MAXIMUM_THREADS 64

/* Host to guest: the order. ORDER_SEQUENCE is written last. */
#define BOARD_ORDER_SEQUENCE 64
#define BOARD_ORDER_KIND 72
#define BOARD_ORDER_THREADS 80
#define BOARD_ORDER_GRAIN 88
#define BOARD_ORDER_PAUSE 96
#define BOARD_ORDER_LOCK_ROUNDS 104

/* Host to guest: faults. A change of REBOOT_REQUEST reboots the guest; AGENT_OFF keeps its agent dead; OFFLINE_REFUSED
 * reserves deadline bandwidth so that the kernel answers EBUSY to every attempt to take a CPU away. */
#define BOARD_AGENT_OFF 128
#define BOARD_REBOOT_REQUEST 136
#define BOARD_OFFLINE_REFUSED 144

/* Guest to host: written once at start. MAGIC is written last. */
#define BOARD_GUEST_MAGIC 256
#define BOARD_BOOTS 264
#define BOARD_BOOT_ID_HIGH 272
#define BOARD_BOOT_ID_LOW 280
#define BOARD_HISTOGRAM_STATUS 288

/* Guest to host: written by the watcher about five times a second. */
#define BOARD_WATCHER_TICKS 320
#define BOARD_GUEST_MONOTONIC_NS 328
#define BOARD_ONLINE_MASK 336
#define BOARD_AGENT_PID 344
#define BOARD_AGENT_RUN_NS 352
#define BOARD_AGENT_WAIT_NS 360
#define BOARD_WATCHER_RUN_NS 368

/* Guest to host: the order that is being carried out. */
#define BOARD_APPLIED_SEQUENCE 384

/* Guest to host: one counter per thread, a cache line each, never reset while the board lives. */
#define BOARD_COUNTERS 4096
#define BOARD_COUNTER_STRIDE 64

#define BOARD_KIND_IDLE 0
#define BOARD_KIND_INDEPENDENT 1
#define BOARD_KIND_KERNEL_LOCK 2
#define BOARD_KIND_USER_SPIN 3
#define BOARD_KIND_BLOCKING_BARRIER 4
#define BOARD_KIND_BLOCKING_MUTEX 5

/* Maps the board and returns it, NULL where there is none: how differs between hypervisors. */
volatile unsigned char *board_map(void);

#endif
