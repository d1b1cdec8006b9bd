"""Guest operating systems: run queues, interrupts, locks, hotplug."""
