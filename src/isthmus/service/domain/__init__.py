"""What may be asked for, and what a report means: functions over a transaction. No HTTP, no wire types."""
