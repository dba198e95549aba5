-- Reads the jobs that the server has dropped: their number, and some of them.
-- @include queue
-- Answers {{state, count, …}, {id, state, …}}.
return {redis.call('HGETALL', base .. ':lost:counts'), redis.call('HGETALL', base .. ':lost')}
