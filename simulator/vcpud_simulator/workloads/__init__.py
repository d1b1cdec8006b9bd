"""Workloads, named after what they stand for."""
