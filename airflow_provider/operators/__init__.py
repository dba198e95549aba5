"""Operators that make calls."""
