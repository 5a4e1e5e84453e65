"""What should be and what was reported, kept in SQLite or PostgreSQL."""

from isthmus.store.store import Changed, Store
from isthmus.store.tx import ReadTx, Tx

__all__ = ["Changed", "ReadTx", "Store", "Tx"]
