"""The HTTP door below `/v1`, for programs in every language."""
