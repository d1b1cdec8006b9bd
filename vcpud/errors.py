"""What can go wrong with the world. Expected refusals are data (`model.Refused`), not errors."""


class VcpudError(Exception):
    """Base of every error that vcpud raises on purpose; its text is meant for an operator."""

    exit_code = 1


class UsageError(VcpudError):
    """A command was asked for something that makes no sense."""

    exit_code = 2


class ConfigError(VcpudError):
    """The configuration is wrong; the message lists every mistake with file, line and key."""

    exit_code = 3


class UnreachableError(VcpudError):
    """libvirt, or a running vcpud, does not answer."""

    exit_code = 4


class PartialError(VcpudError):
    """Part of what was asked was done; the message names what was not."""

    exit_code = 5


class LedgerError(VcpudError):
    """Originals could not be written durably or read back: nothing may be changed."""
