"""HTTP transports, with proof of what was sent and to which request an answer belongs."""
