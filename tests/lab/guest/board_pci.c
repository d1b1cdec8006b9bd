/* The board of a guest with PCI devices: BAR 2 of the ivshmem device. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board.h"

/* The hexadecimal number in a file of a device's directory, 0 where there is none. */
static unsigned number(const char *device, const char *name)
{
	char path[300];
	unsigned value = 0;

	snprintf(path, sizeof path, "%s/%s", device, name);
	FILE *file = fopen(path, "re");
	if (file && fscanf(file, "%x", &value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}

static void *map_device(const char *device)
{
	char path[300];

	snprintf(path, sizeof path, "%s/enable", device);
	int file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, "1", 1) != 1)
		dprintf(1, "lab: cannot enable %s: %s\n", path, strerror(errno));
	close(file);
	snprintf(path, sizeof path, "%s/resource2", device);
	file = open(path, O_RDWR | O_CLOEXEC);
	void *mapped = mmap(NULL, BOARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (mapped == MAP_FAILED) {
		dprintf(1, "lab: cannot map %s: %s\n", path, strerror(errno));
		return NULL;
	}
	return mapped;
}

volatile unsigned char *board_map(void)
{
	glob_t devices;
	void *found = NULL;

	glob("/sys/bus/pci/devices/*", 0, NULL, &devices);
	for (size_t i = 0; i < devices.gl_pathc && !found; i++)
		if (number(devices.gl_pathv[i], "vendor") == 0x1af4 && number(devices.gl_pathv[i], "device") == 0x1110)
			found = map_device(devices.gl_pathv[i]);
	globfree(&devices);
	return found;
}
