"""Allocation policies, one idea per file, found through the entry point group `vcpud.policies`."""
