"""The one place that keeps what should be: SQLAlchemy on SQLite or PostgreSQL."""
