"""Operators that make phone calls."""
