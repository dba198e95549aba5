"""Waiting for calls inside a task. If the task sends its calls itself, it runs a worker meanwhile."""
