-- Returns the time in seconds and microseconds. The server is the one that has KEYS[1], so it is the same in a cluster.
return redis.call('TIME')
