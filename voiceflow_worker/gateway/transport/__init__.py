"""HTTP transports, with proof that nothing was sent, and proof that an answer belongs to its request."""
