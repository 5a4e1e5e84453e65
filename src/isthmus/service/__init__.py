"""The API, and the domain behind it."""
