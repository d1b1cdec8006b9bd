"""What `vcpud VERB` does; the command line itself is in `vcpud.cli`."""
