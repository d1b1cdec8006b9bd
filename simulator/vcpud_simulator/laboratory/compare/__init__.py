"""`vcpud compare`: every policy against unmanaged and against an oracle, on many scenarios."""
