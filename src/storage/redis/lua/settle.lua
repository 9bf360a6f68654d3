-- Makes an outcome that of its id and answers false, or answers the outcome that it has.
--
-- KEYS: outcomes. ARGV: id, outcome.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
end
return false
