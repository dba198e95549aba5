"""Transports: the HTTP libraries, and proof of what left and whose answer came back."""
