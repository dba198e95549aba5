"""Waiting for calls inside a task, with a worker beside it if the task sends."""
