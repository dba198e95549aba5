"""Outcomes for programs: the stream, hooks, and waiting for single calls."""
