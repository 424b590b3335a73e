-- Takes units from several limits at once: from all of them, or from none.  A call of this script serves several
-- requests, one after another.  Its clock is that of Redis, so the clocks of servers may differ.
--
-- ARGV: the number of requests; for each, the number of its limits; for each of those, whose name is in KEYS:
--   rate   "r", microseconds per unit, units at once, cost
--   daily  "d", units per day, cost
-- Answer, for each request: the number of the limit that refuses it, or 0; the milliseconds after which to ask again;
-- for each limit, the units that are left, and the milliseconds until all are there again.
--
-- A rate is the generic cell rate algorithm: its key holds the time at which the burst is whole again.  Beside that it
-- holds the time that the last refused request was told: the next one is told a later time, so that all of them
-- succeed if they wait so long.
local DAY_US, MAX_PROMISE_US = 86400e6, 10e6
-- More than 1, so that new requests seldom take what others were promised and are just coming for.
local PROMISE_SPACING = 1.1
local time = redis.call("TIME")
local now = time[1] * 1e6 + time[2]
local key, arg, answer = 0, 0, {}

local function next_arg()
  arg = arg + 1
  return ARGV[arg]
end

local function read_rate(limit)
  limit.interval, limit.burst, limit.cost = tonumber(next_arg()), tonumber(next_arg()), tonumber(next_arg())
  local whole, promised = (redis.call("GET", limit.key) or ""):match("^(%d+) (%d+)$")
  limit.whole = math.max(tonumber(whole or 0), now)
  limit.promised = tonumber(promised or 0)
  local needs = limit.cost * limit.interval
  limit.wait = limit.whole + needs - now - math.max(limit.burst * limit.interval, needs)
end

local function write_rate(limit)
  local last = math.max(limit.whole, limit.promised)
  if last > now then
    local value = string.format("%.0f %.0f", limit.whole, limit.promised)
    redis.call("SET", limit.key, value, "PX", math.ceil((last - now) / 1000) + 1)
  end
end

local function read_daily(limit)
  limit.quota, limit.cost = tonumber(next_arg()), tonumber(next_arg())
  limit.used = tonumber(redis.call("GET", limit.key) or 0)
  limit.reset = DAY_US - now % DAY_US
  local is_used_up = limit.cost > 0 and limit.used + limit.cost > limit.quota
  limit.wait = is_used_up and limit.reset or 0
end

local function take(limit)
  if limit.interval then
    limit.whole = limit.whole + limit.cost * limit.interval
    write_rate(limit)
  else
    limit.used = math.max(limit.used + limit.cost, 0)
    redis.call("SET", limit.key, string.format("%.0f", limit.used), "PX", math.ceil(limit.reset / 1000))
  end
end

-- Returns how long to wait; notes the time.
local function promise(limit)
  if not limit.interval then
    return limit.wait
  end
  local at = math.max(now + limit.wait, math.min(limit.promised, now + limit.wait + MAX_PROMISE_US))
  limit.promised = at + PROMISE_SPACING * limit.cost * limit.interval
  write_rate(limit)
  return at - now
end

local function add(limit)
  local left, reset
  if limit.interval then
    reset = limit.whole - now
    left = math.floor(limit.burst - reset / limit.interval + 1e-6)
  else
    left, reset = limit.quota - limit.used, limit.reset
  end
  answer[#answer + 1] = math.max(left, 0)
  answer[#answer + 1] = math.ceil(reset / 1000)
end

for _ = 1, tonumber(next_arg()) do
  local limits, refused_by = {}, 0
  for number = 1, tonumber(next_arg()) do
    key = key + 1
    local limit = { key = KEYS[key] }
    if next_arg() == "r" then read_rate(limit) else read_daily(limit) end
    limits[number] = limit
    if limit.wait > 0 and (refused_by == 0 or limit.wait > limits[refused_by].wait) then
      refused_by = number
    end
  end
  answer[#answer + 1] = refused_by
  if refused_by == 0 then
    for _, limit in ipairs(limits) do take(limit) end
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] = math.ceil(promise(limits[refused_by]) / 1000)
  end
  for _, limit in ipairs(limits) do add(limit) end
end
return answer
