"""The simulated host: an overcommitted multiprocessor, its hypervisor scheduler and its guests."""
