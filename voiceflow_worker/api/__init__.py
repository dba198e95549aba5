"""The HTTP API below `/v1`, for programs in every language."""
