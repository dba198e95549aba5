-- Returns the time of the server in seconds and microseconds.
return cjson.encode(redis.call('TIME'))
