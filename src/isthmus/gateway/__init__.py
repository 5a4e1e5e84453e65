"""Per-guest servers behind one protocol."""
