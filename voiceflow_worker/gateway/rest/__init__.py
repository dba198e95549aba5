"""Requests to the 8x8 API that place no call."""
