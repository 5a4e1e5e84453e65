"""What each route does: functions over one transaction."""
