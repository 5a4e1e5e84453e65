"""The Shared File Systems API v2 over the same domain, door and database as Isthmus's own API."""
