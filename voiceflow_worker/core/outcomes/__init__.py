"""Outcomes for programs: the stream, and waiting for single calls."""
