-- Bodies with distinct event ids. BATCH: events in an array, 0 is one object. NOW_MS: the time of the events.
local batch, now_ms = tonumber(os.getenv("BATCH")), tonumber(os.getenv("NOW_MS"))
local types = { "view", "view", "view", "read", "like", "unlike" }
local variants, count = {}, 0

local function rest(i)
  local actor = (i * 7919) % 200000
  return string.format(
    '","type":"%s","actor_id":"u%d","subject_id":"article:%d","occurred_at":%d,"duration_ms":%d}',
    types[i % 6 + 1], actor, (i * 104729) % 20000, now_ms - i % 1000, (i * 37) % 30000)
end

function init()
  math.randomseed(os.time())
  local tag = string.format("%x%04x", os.time(), math.random(0, 65535))
  -- The pieces between which a request's number goes.
  for v = 1, 64 do
    local pieces = {}
    if batch == 0 then
      pieces = { '{"event_id":"' .. tag .. "-", rest(v * 101) }
    else
      pieces[1] = '[{"event_id":"' .. tag .. "-0-"
      for i = 1, batch - 1 do pieces[i + 1] = rest(v * 1009 + i) .. ',{"event_id":"' .. tag .. "-" .. i .. "-" end
      pieces[batch + 1] = rest(v * 1009 + batch) .. "]"
    end
    variants[v] = pieces
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  -- Where events come from is what the ingest API sees: without a key nobody may say it.
  wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64)"
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, table.concat(variants[count % 64 + 1], tostring(count)))
end
