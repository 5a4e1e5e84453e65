"""Drivers of storage pools behind one protocol, with optional powers as protocols of their own."""
