"""The Xen lab: a real Xen with a Debian dom0 and PV guests, booted in an emulator."""
