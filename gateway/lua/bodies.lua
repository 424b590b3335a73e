-- One public path, three kinds of body: JSON goes to the transcoder as it is, anything else to the sibling
-- binding `:upload`, which takes the body whole.
local UPLOADS = { ["/v1/classify"] = true }

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = (headers:get("content-type") or ""):lower()
  -- Envoy puts its own errors into the JSON form, except where this mark says that the caller speaks gRPC.
  if content_type:find("^application/grpc") then
    headers:replace("x-native-grpc", "1")
    return
  end
  headers:remove("x-native-grpc")
  if headers:get(":method") ~= "POST" or content_type:find("^application/json") then
    return
  end
  local path, query = headers:get(":path"):match("^([^?]*)(.*)$")
  if UPLOADS[path] then
    headers:replace(":path", path .. ":upload" .. query)
  end
end
