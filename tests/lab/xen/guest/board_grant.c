/* The board of a Xen guest: pages granted to dom0, which finds their references in xenstore.
 *
 * Only what lies on the first two pages of the board is used, so only those are shared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/gntalloc.h>

#include "board.h"

#define PAGES 2
#define PAGE_BYTES 4096
#define XENSTORE_WRITE 11
#define REFERENCES_KEY "data/vcpud-lab-board"

/* What a message to xenstore begins with. */
struct message {
	uint32_t type, request, transaction, length;
	char text[128];
};

static int publish(const uint32_t *references)
{
	struct message message = {.type = XENSTORE_WRITE};
	const size_t head = sizeof message - sizeof message.text;

	message.length = (uint32_t)snprintf(message.text, sizeof message.text, REFERENCES_KEY "%c%u %u", '\0',
					    references[0], references[1]);
	int bus = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
	int told = bus >= 0 && write(bus, &message, head + message.length) == (ssize_t)(head + message.length) &&
		   read(bus, &message, head) == (ssize_t)head && message.type == XENSTORE_WRITE;
	close(bus);
	return told;
}

volatile unsigned char *board_map(void)
{
	union {
		struct ioctl_gntalloc_alloc_gref request;
		char room[sizeof(struct ioctl_gntalloc_alloc_gref) + PAGES * sizeof(uint32_t)];
	} grant = {.request = {.domid = 0, .flags = GNTALLOC_FLAG_WRITABLE, .count = PAGES}};

	/* Never closed: with it the grants would go. */
	int device = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
	if (device < 0 || ioctl(device, IOCTL_GNTALLOC_ALLOC_GREF, &grant.request) != 0) {
		dprintf(1, "lab: cannot grant memory: %s\n", strerror(errno));
		return NULL;
	}
	void *mapped = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, device,
			    (off_t)grant.request.index);
	if (mapped == MAP_FAILED || !publish(grant.request.gref_ids)) {
		dprintf(1, "lab: cannot share memory: %s\n", strerror(errno));
		return NULL;
	}
	return mapped;
}
