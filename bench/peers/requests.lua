-- The requests of one block: read from the file named first, each ended by a NUL, sent in their order over and over.
local wanted, at = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for one in file:read("*a"):gmatch("(%Z+)%z") do
    wanted[#wanted + 1] = one
  end
  file:close()
end

function request()
  at = at % #wanted + 1
  return wanted[at]
end
