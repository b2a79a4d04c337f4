-- Sends the requests of a file, one after the other, and tells the sums as one line of JSON.
-- wrk ... -s requests.lua URL -- FILE [once]    each request in FILE ends with a zero byte; once: then it rests
local requests, last, once = {}, 0, false

-- The name in the URL goes into the handshake, but every proxy listens on loopback.
function wrk.resolve(_, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   for request in file:read("*a"):gmatch("[^%z]+") do
      requests[#requests + 1] = request
   end
   file:close()
   once = arguments[2] == "once"
end

function request()
   if once and last == #requests then
      -- Nothing is read any more, so what goes out now counts nowhere.
      wrk.thread:stop()
      return ""
   end
   last = last % #requests + 1
   return requests[last]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      'JSON {"requests": %d, "bytes": %.0f, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f}\n',
      summary.requests, summary.bytes, summary.duration / 1e6, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
