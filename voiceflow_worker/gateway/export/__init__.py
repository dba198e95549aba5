"""The log export of 8x8: requested, downloaded, read."""
