-- Whether head `a` is older than head `b`. They begin with 20 digits; where these are equal the bytes of
-- the rest decide, and not the order of the server's locale, which `<` would take.
local function is_older(a, b)
    local at_a, at_b = string.sub(a, 1, 20), string.sub(b, 1, 20)
    if at_a ~= at_b then
        return at_a < at_b
    end
    for i = 21, math.min(#a, #b) do
        local byte_a, byte_b = string.byte(a, i), string.byte(b, i)
        if byte_a ~= byte_b then
            return byte_a < byte_b
        end
    end
    return #a < #b
end

-- Makes head_of(i) the head of the key ARGV[i], for first <= i <= last in steps, where it is newer than
-- what is there. Lua passes a few thousand arguments to one call at most.
local function raise_heads(heads, first, step, head_of)
    local slice = 1000 * step
    for from = first, #ARGV, slice do
        local keys, at = {}, {}
        for i = from, math.min(#ARGV, from + slice - 1), step do
            keys[#keys + 1] = ARGV[i]
            at[#at + 1] = i
        end
        local known, newer = redis.call('HMGET', heads, unpack(keys)), {}
        for i = 1, #keys do
            local head = head_of(at[i])
            if not known[i] or is_older(known[i], head) then
                newer[#newer + 1] = keys[i]
                newer[#newer + 1] = head
            end
        end
        if #newer > 0 then
            redis.call('HSET', heads, unpack(newer))
        end
    end
end
