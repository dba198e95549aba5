"""A rate limit for one process. The rate of a queue, over all its workers, is kept in the store."""
