"""The lab: real guests under a private libvirtd, and the instrument that measures vcpud on them."""
