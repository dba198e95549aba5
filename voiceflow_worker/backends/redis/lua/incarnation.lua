-- Returns the id of the server process, which is new after each start. Lost connections do not show a restart, because
-- the client reopens them without notice.
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
