-- COUNT subjects a request; a tenth of the picks is one subject, the rest is skewed over 20,000. PREFIX is the path before
-- the first one, SEPARATOR stands between two, SUFFIX behind the last one.
local count, prefix = tonumber(os.getenv("COUNT")), os.getenv("PREFIX")
local separator, suffix = os.getenv("SEPARATOR"), os.getenv("SUFFIX")
local requests, next = {}, 0

local function subject()
  if math.random() < 0.1 then return "article:0" end
  return "article:" .. math.floor(20000 * math.random() ^ 3)
end

function init()
  for i = 1, 8192 do
    local subjects = {}
    for j = 1, count do subjects[j] = subject() end
    requests[i] = wrk.format("GET", prefix .. table.concat(subjects, separator) .. suffix)
  end
end

function request()
  next = next % 8192 + 1
  return requests[next]
end
