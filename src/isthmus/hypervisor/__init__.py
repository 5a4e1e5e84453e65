"""Running guests and their devices behind one protocol."""
