-- Raises the heads of keys. Answers those keys whose commits are lost.
--
-- KEYS: heads, and outcomes if they are on this server: then only commits whose outcome is there become heads. A
-- server that came back without its end must not be told of commits that it has lost.
-- ARGV: keys, each followed by its head and the id of the commit; no more than Lua can pass to one call.
local keys = {}
for i = 1, #ARGV, 3 do
    keys[#keys + 1] = ARGV[i]
end
local known, newer, lost = redis.call('HMGET', KEYS[1], unpack(keys)), {}, {}
for i = 1, #keys do
    local old, head, id = known[i], ARGV[3 * i - 1], ARGV[3 * i]
    if not old or old < string.sub(head, 1, 20) or is_older_writer(old, head) then
        if KEYS[2] and redis.call('HEXISTS', KEYS[2], id) == 0 then
            lost[#lost + 1] = keys[i]
        else
            newer[#newer + 1] = keys[i]
            newer[#newer + 1] = head
        end
    end
end
if #newer > 0 then
    redis.call('HSET', KEYS[1], unpack(newer))
end
return lost
