-- Returns the time in seconds and microseconds. In a cluster, it is always the time of the server that has KEYS[1].
return cjson.encode(redis.call('TIME'))
