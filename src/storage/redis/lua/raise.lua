-- Whether head `a`, which has the time of head `b` or a later one, is older: only by its writer then. The
-- bytes decide, and not the order of the server's locale, which `<` would take.
local function is_older_writer(a, b)
    if string.sub(a, 1, 20) ~= string.sub(b, 1, 20) then
        return false
    end
    for i = 21, math.min(#a, #b) do
        local byte_a, byte_b = string.byte(a, i), string.byte(b, i)
        if byte_a ~= byte_b then
            return byte_a < byte_b
        end
    end
    return #a < #b
end
