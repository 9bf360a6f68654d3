-- Makes an outcome that of its id, with its log entry and, if they live here, the heads of its keys;
-- unless the id has an outcome: then answers that.
--
-- KEYS: outcomes, log, sequence, heads; a version that has to be there, if there is one.
-- ARGV: id, outcome, the version as a head, then the keys whose heads live here.
if KEYS[5] and redis.call('EXISTS', KEYS[5]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
        or redis.error_reply('UNWRITTEN the versions of the commit are not there')
end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
    return redis.call('HGET', KEYS[1], ARGV[1])
end
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
local head = ARGV[3]
-- A head of an earlier time is less than this in any locale.
local time = string.sub(head, 1, 20)
-- Lua passes a few thousand arguments to one call at most.
for first = 4, #ARGV, 1000 do
    local last = math.min(#ARGV, first + 999)
    local known = redis.call('HMGET', KEYS[4], unpack(ARGV, first, last))
    local newer, count = {}, 0
    for i = 1, #known do
        local old = known[i]
        if not old or old < time or is_older_writer(old, head) then
            newer[count + 1] = ARGV[first + i - 1]
            newer[count + 2] = head
            count = count + 2
        end
    end
    if count > 0 then
        redis.call('HSET', KEYS[4], unpack(newer))
    end
end
return false
