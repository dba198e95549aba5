"""The log export of 8x8: requested, downloaded and read."""
