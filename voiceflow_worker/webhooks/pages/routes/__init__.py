"""The pages, one module each, and the reading that they share."""
