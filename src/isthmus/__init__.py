"""Isthmus: shared file systems for virtual machines, through their hypervisor host."""

__version__ = "0.1.0"
