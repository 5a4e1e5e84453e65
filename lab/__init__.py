"""A small guest to try Isthmus on: its image, and the machine that boots it. Not shipped."""
