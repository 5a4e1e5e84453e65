"""Thin handlers, a module per noun: decode, call the domain, encode."""
