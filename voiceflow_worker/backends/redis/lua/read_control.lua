-- Reads the limits of a queue, and the gates that are not open.
-- @include queue
-- Returns {{rate, burst, max_active}, {gate, text, …}}.
return {redis.call('HMGET', base .. ':limits', 'rate', 'burst', 'max_active'), redis.call('HGETALL', base .. ':gates')}
