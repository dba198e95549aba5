-- The time of the server that holds KEYS[1], in seconds and microseconds: of one server, also in a cluster.
return redis.call('TIME')
