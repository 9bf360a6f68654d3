-- Makes an outcome that of its id, with its log entry, unless the id has an outcome: then answers that.
--
-- KEYS: outcomes, log, sequence; a version that has to be there, if there is one.
-- ARGV: id, outcome.
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
        or redis.error_reply('UNWRITTEN the versions of the commit are not there')
end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
end
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
return false
