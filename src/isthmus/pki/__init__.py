"""Certificates: the authority that signs, the profiles of what it signs, and the trust that verifies it off-line."""
