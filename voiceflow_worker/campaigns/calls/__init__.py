"""Rows as calls: templates, times, keys, and the request that a row asks for."""
