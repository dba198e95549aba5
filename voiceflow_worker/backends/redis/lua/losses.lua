-- Reads the numbers of jobs that the server has dropped, and the ids of some of them.
-- @include queue
-- Returns {{state, count, …}, {id, state, …}}.
return {redis.call('HGETALL', base .. ':lost:counts'), redis.call('HGETALL', base .. ':lost')}
