"""The pages, one module each, and the queries and charts that they share."""
