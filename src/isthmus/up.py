"""Service and agent in one process."""
