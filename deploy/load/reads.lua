-- For wrk: of 100 requests 80 read the counters of a subject, 15 those of 20 subjects, 5 a board. Each thread has numbers of
-- its own. The first argument is the number of subjects, the second how many milliseconds a connection waits after a
-- response (0: none), which sets the rate: wrk has no other means.
local subjects, pause_ms = 1000, 0
local threads = 0

function setup(thread)
  thread:set("seed", threads)
  threads = threads + 1
end

function init(args)
  subjects = tonumber(args[1]) or subjects
  pause_ms = tonumber(args[2]) or pause_ms
  math.randomseed(seed + 1)
end

local function subject()
  return "article:" .. math.random(1, subjects)
end

function delay()
  -- Connections that wait equally long would send at the same moments.
  return pause_ms > 0 and math.random(pause_ms, 2 * pause_ms) * 2 / 3 or 0
end

function request()
  local kind = math.random(1, 100)
  if kind <= 80 then
    return wrk.format("GET", "/v1/subjects/" .. subject() .. "/counters")
  elseif kind <= 95 then
    local names = {}
    for at = 1, 20 do
      names[at] = "subject_id=" .. subject()
    end
    return wrk.format("GET", "/v1/counters?" .. table.concat(names, "&"))
  end
  return wrk.format("GET", "/v1/rankings/hot")
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%.3f,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
