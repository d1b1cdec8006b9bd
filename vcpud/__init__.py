"""vcpud: dynamic vCPU allocation for Xen and KVM hosts."""
