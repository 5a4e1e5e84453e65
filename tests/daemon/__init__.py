"""Real daemons."""
