-- Under overload, refuses a part of a caller's classify calls here: that spares the server, whose refusals share
-- a thread with its answers.  See Beyer et al., "Site Reliability Engineering" (2016), chapter 21,
-- "Client-Side Throttling".
--
-- The server marks each refusal for lack of capacity.  From then on, of that caller's calls only so many pass that
-- the server refuses a few: as many as it has answered lately, and `MARGIN` more.  So it always has enough to do, and
-- shows at once when it can take more.  After a window without refusals, twice as many pass, until all do.  Calls that
-- end without an answer do not count: a server that is too busy to refuse gets less.  The first call of each window
-- passes, so that a caller with few calls only meets the server.
--
-- A caller is an API key, with one kind of client and about one deadline: others are not refused because this one
-- asks too much, nor patient calls because impatient ones came too late.  Each thread of Envoy counts by itself.
local CLASSIFY = { ["/image_categorizer.v1.ClassifyService/Classify"] = true, ["/v1/classify:upload"] = true }
local FILTER = "shed"
local WINDOW_MS = 250
local KEPT = 0.75 -- of the counts, from one window to the next: they cover about a second
local MARGIN = 1.15
local FIRST_SHARE = 0.02 -- what is doubled if none passed
local MAX_CALLERS = 10000
local RESOURCE_EXHAUSTED = "8"
local DEADLINE_STEP = math.log(1.25)
local UNITS_S = { H = 3600, M = 60, S = 1, m = 1e-3, u = 1e-6, n = 1e-9 }

local callers, count = {}, 0 -- those that the server has refused lately

local function caller_of(headers)
  local number, unit = (headers:get("grpc-timeout") or ""):match("^(%d+)([HMSmun])$")
  local deadline_s = number and #number <= 8 and tonumber(number) * UNITS_S[unit] or 0
  local step = deadline_s > 0 and math.floor(math.log(deadline_s) / DEADLINE_STEP) or "none"
  local kind = headers:get("x-native-grpc") and "grpc" or "rest"
  return kind .. " " .. step .. " " .. (headers:get("authorization") or "")
end

local function forget(key)
  callers[key], count = nil, count - 1
end

-- Ends the caller's window if its time is over, and forgets a caller whose calls all pass again.  Returns whether a
-- window has begun.
local function end_window(key, caller, now_ms)
  local windows = math.floor((now_ms - caller.since_ms) / WINDOW_MS)
  if windows < 1 then
    return false
  end
  if caller.refused > 0 then
    caller.share = math.min(MARGIN * caller.answered / math.max(caller.asked, 1), 1)
    windows = windows - 1
  end
  caller.share = math.max(caller.share, FIRST_SHARE) * 2 ^ windows
  if caller.share > 1 then
    forget(key)
  end
  caller.since_ms, caller.refused = now_ms, 0
  caller.asked, caller.answered = caller.asked * KEPT, caller.answered * KEPT
  return true
end

-- Repeats what the server has answered to this caller.
local function refuse(handle, headers, caller)
  handle:streamInfo():dynamicMetadata():set(FILTER, "is_refused", true)
  if headers:get("x-native-grpc") then
    handle:respond({
      [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = caller.status,
      ["grpc-message"] = caller.message, ["grpc-status-details-bin"] = caller.details, ["retry-after"] = caller.retry_after,
    }, "")
  else
    handle:respond({ [":status"] = "503", ["retry-after"] = caller.retry_after }, "too many images are waiting; ask again later")
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if not CLASSIFY[(headers:get(":path") or ""):match("^[^?]*")] then
    return
  end
  local key = caller_of(headers)
  handle:streamInfo():dynamicMetadata():set(FILTER, "caller", key)
  local caller = callers[key]
  if not caller then
    return
  end
  local is_first = end_window(key, caller, handle:timestamp())
  caller.asked = caller.asked + 1
  if not is_first and math.random() >= caller.share then
    refuse(handle, headers, caller)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local noted = handle:streamInfo():dynamicMetadata():get(FILTER)
  if not noted or noted["is_refused"] then
    return
  end
  local key = noted["caller"]
  local caller = callers[key]
  if headers:get("grpc-status") == RESOURCE_EXHAUSTED then
    return -- a limit of the caller, which says nothing about the capacity
  end
  if not headers:get("x-overloaded") then
    if caller then
      caller.answered = caller.answered + 1
    end
    return
  end
  headers:remove("x-overloaded")
  if not caller then
    if count >= MAX_CALLERS then
      callers, count = {}, 0
    end
    caller = { since_ms = handle:timestamp(), share = 1, asked = 0, answered = 0, refused = 0 }
    callers[key], count = caller, count + 1
  end
  caller.refused = caller.refused + 1
  caller.status, caller.message = headers:get("grpc-status"), headers:get("grpc-message")
  caller.details = headers:get("grpc-status-details-bin")
  caller.retry_after = headers:get("retry-after")
end
