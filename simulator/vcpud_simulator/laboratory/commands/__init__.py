"""The commands of the laboratory, one a file; found through the entry points `vcpud.commands`."""
