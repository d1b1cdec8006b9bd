"""The seed study, repeated: Xen's credit scheduler, ESX's co-scheduling, dynamic allocation."""
