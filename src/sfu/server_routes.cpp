// What the server answers itself: TURN credentials and stream documents.
#include "sfu/server_inside.h"

namespace cfr::sfu {

namespace {

constexpr unsigned kMaxStreamWaitS = 60;
constexpr std::size_t kMaxWaiters = 1000;
constexpr unsigned kMaxTurnTtlS = 48 * 3600;

}  // namespace

ApiReply SfuServer::Impl::turn(SoupServerMessage* message, const std::string& method,
                               const std::string& path, const std::string& body) {
  auto error = [](int status, const char* code, const std::string& text) {
    return ApiReply{status, json::write(ApiError{code, text}), 0};
  };
  auto ends = [&](const char* end) { return g_str_has_suffix(path.c_str(), end); };
  bool revokes = ends("/revoke");
  if (!revokes && !ends("/credentials/generate-ice-servers") && !ends("/credentials/generate"))
    return error(404, "not_found", "No such endpoint");
  if (method != "POST") return error(405, "method_not_allowed", "Use POST");
  // A key has a token of its own at the service. Here any is taken, as long as there is one where
  // the app has a secret.
  if (!settings.sfu.app_secret.empty() && bearer(message).empty())
    return error(401, "unauthorized", "The token of the key is missing");
  if (revokes) return {204, "", 0};
  auto request = json::read_ice_servers_request(body);
  if (!request) return error(400, "decoding_error", request.error().message);
  if (request->ttl_s > kMaxTurnTtlS)
    return error(400, "invalid_params", "The ttl is more than 48 hours");
  std::vector<IceServer> servers = {{{"stun:stun.cloudflare.com:3478"}, "", ""}};
  if (!settings.turn_url.empty()) {
    // coturn's time-limited credentials (draft-uberti-behave-turn-rest-00).
    std::string id = request->custom_identifier.empty() ? "sfu" : request->custom_identifier;
    std::string user =
        std::to_string(g_get_real_time() / G_USEC_PER_SEC + request->ttl_s) + ":" + id;
    guint8 digest[20];
    gsize length = sizeof digest;
    GHmac* hmac =
        g_hmac_new(G_CHECKSUM_SHA1, reinterpret_cast<const guchar*>(settings.turn_secret.data()),
                   settings.turn_secret.size());
    g_hmac_update(hmac, reinterpret_cast<const guchar*>(user.data()), gssize(user.size()));
    g_hmac_get_digest(hmac, digest, &length);
    g_hmac_unref(hmac);
    g_autofree char* password = g_base64_encode(digest, length);
    g_auto(GStrv) urls = g_strsplit(settings.turn_url.c_str(), ",", -1);
    IceServer turn{{}, user, password};
    for (char** url = urls; *url; ++url) turn.urls.emplace_back(*url);
    servers.push_back(turn);
  }
  return {201, json::write(servers), 0};
}

void SfuServer::Impl::answer_stream(std::unique_ptr<Call> call, const Streams::Reply& reply) {
  if (!reply.etag.empty()) set_header(*call, "ETag", reply.etag);
  conclude(std::move(call), {reply.status, reply.body, 0});
}

void SfuServer::Impl::handle_stream(std::unique_ptr<Call> call, const std::string& name) {
  SoupServerMessage* message = call->message.get();
  auto error = [&](int status, const char* code, const char* text) {
    conclude(std::move(call), {status, json::write(ApiError{code, text}), 0});
  };
  if (!settings.stream_token.empty() && bearer(message) != settings.stream_token)
    return error(401, "unauthorized", "The stream token is wrong");
  SoupMessageHeaders* headers = soup_server_message_get_request_headers(message);
  auto header = [headers](const char* field) {
    const char* value = soup_message_headers_get_list(headers, field);
    return std::string(value ? value : "");
  };
  if (call->method == "PUT") {
    auto reply = streams.put(name, call->body);
    answer_stream(std::move(call), reply);
    wake_waiters(name);
  } else if (call->method == "DELETE") {
    auto reply = streams.remove(name);
    answer_stream(std::move(call), reply);
    wake_waiters(name);
  } else if (call->method == "GET") {
    std::string known = header("If-None-Match"), prefer = header("Prefer");
    auto reply = streams.get(name, known);
    unsigned wait_s = 0;
    if (auto at = prefer.find("wait="); at != std::string::npos)
      wait_s = unsigned(std::min<guint64>(kMaxStreamWaitS,
                                          g_ascii_strtoull(prefer.c_str() + at + 5, nullptr, 10)));
    // No change yet, or no stream yet: the question waits for one.
    bool waits = wait_s && (reply.status == 304 || (reply.status == 404 && known.empty()));
    if (!waits || waiters.size() >= kMaxWaiters) return answer_stream(std::move(call), reply);
    RequestId id = call->id;
    call->hold(context, [this, id] {
      std::erase_if(waiters, [id](const Waiter& waiter) { return waiter.call->id == id; });
    });
    waiters.push_back({std::move(call), name, known, now() + int64_t(wait_s) * G_USEC_PER_SEC});
  } else {
    error(405, "method_not_allowed", "Use GET, PUT or DELETE");
  }
}

void SfuServer::Impl::wake_waiters(const std::string& name) {
  auto all = std::move(waiters);
  waiters.clear();
  for (Waiter& waiter : all) {
    auto reply = streams.get(waiter.name, waiter.known);
    bool changed = waiter.name == name &&
                   (reply.status == 200 || (reply.status == 404 && !waiter.known.empty()));
    if (changed)
      answer_stream(std::move(waiter.call), reply);
    else
      waiters.push_back(std::move(waiter));
  }
}

}  // namespace cfr::sfu
