"""Reports of 8x8: status codes, webhook events, session outcomes, charges, and the verdict on a POST."""
