-- Load for wrk: one Amplitude event a request (event streaming webhook, default times), a new user and a new
-- insert id each. RUN must differ between two runs against the same database.
local run = os.getenv("RUN")
local languages = { "Hindi", "Bhojpuri", "Haryanvi", "Rajasthani", "English" }
local regions = { "Bihar", "Haryana", "Rajasthan", "Uttar Pradesh", "Maharashtra" }
local cities = { "Patna", "Hisar", "Jodhpur", "Lucknow", "Nagpur" }
local shows = { "Bawal Panchayat", "Dhoom Galli", "Nautanki Express", "Haveli Ki Raat", "Chhora Jaat Ka", "Mitti" }
local plans = { "yearly_499", "monthly_99", "quarterly_199" }
local devices = { "Samsung Galaxy A14", "Redmi 12", "vivo Y16", "realme C55" }

local template = table.concat({
  '{"$insert_id":"%s-%d","uuid":"%s-51a2-11ee-9d0f-%s","event_type":"checkout_abandoned","event_time":"%s",',
  '"client_event_time":"%s","user_id":"usr_%s%s","device_id":"dev_%s","amplitude_id":%d,"session_id":%d,',
  '"platform":"Android","os_name":"android","os_version":"14","device_family":"%s","country":"India",',
  '"region":"%s","city":"%s","language":"Hindi","version_name":"4.12.0","library":"amplitude-kotlin/1.16.2",',
  '"event_properties":{"region":"%s","language":"%s","show_name":"%s","plan_viewed":"%s","step":"payment",',
  '"price_shown":"%d"},"user_properties":{"plan":"free","shows_watched":"%d","signed_up":"2026-10-02"},',
  '"groups":{},"data":{"path":"/2/httpapi"},"sample_rate":null}',
})

local sent = 0

-- A bijection on 32 bits: user ids never repeat and arrive in no order, as real ones do.
local function scattered(n)
  return string.format("%08x", (n * 2654435761) % 4294967296)
end

-- One second back, so that no event lies ahead of the server's clock.
local function event_time(n)
  return os.date("!%Y-%m-%d %H:%M:%S", os.time() - 1) .. string.format(".%06d", (n * 137) % 1000000)
end

local function one_of(list, n)
  return list[n % #list + 1]
end

function init()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["User-Agent"] = "Amplitude/Webhook/1.0"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("SECRET")
end

function request()
  sent = sent + 1
  local id, time = scattered(sent), event_time(sent)
  local place = sent % 5 + 1
  local body = string.format(
    template, id .. run, sent, id, run, time, time, id, run, id, 300000000 + sent, 1763800000000 + sent,
    one_of(devices, sent), regions[place], cities[place], regions[place], languages[place],
    one_of(shows, sent), one_of(plans, sent), 99 + sent % 400, sent % 90)
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"max":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
