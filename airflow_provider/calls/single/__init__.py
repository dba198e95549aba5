"""The calls of tasks that make one call."""
