"""Hypervisor schedulers, one a file, behind the hooks of `entities.Scheduler`."""
