"""The calls of tasks that call a list of people."""
