#include "sfu/server.h"

#include <gst/gst.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

#include <cstdio>
#include <deque>

#include "sfu/faults.h"
#include "sfu/streams.h"
#include "util/gref.h"
#include "wire/json.h"

namespace cfr::sfu {

namespace {

constexpr unsigned kTickMs = 20;
constexpr unsigned kStateTicks = 5;  // of kTickMs: how often deadlines of sessions are looked at
constexpr std::size_t kMaxRequests = 2000;
constexpr std::size_t kMaxBody = 1 << 20;
constexpr unsigned kMaxStreamWaitS = 60;

int64_t now() { return g_get_monotonic_time(); }

// What a call is named in faults.
std::string operation_of(const std::string& path) {
  auto at = path.find("/sessions/");
  if (at == std::string::npos)
    return path.find("generate-ice-servers") != std::string::npos ? "ice-servers" : "";
  std::string rest = path.substr(at + 10);
  if (rest == "new") return "sessions/new";
  auto slash = rest.find('/');
  return slash == std::string::npos ? "session" : rest.substr(slash + 1);
}

}  // namespace

struct SfuServer::Impl : SfuState::Hooks, Forwarder::Output {
  explicit Impl(ServerSettings settings, GMainContext* context)
      : settings(std::move(settings)), context(g_main_context_ref(context)) {}
  ~Impl() override;

  struct Link : Transport::Listener {
    Link(Impl& server, std::string id) : server(server), id(std::move(id)) {}
    void on_transport_connected() override { server.state->on_connected(id, now()); }
    void on_transport_closed(const std::string& why) override {
      if (server.settings.log) std::fprintf(stderr, "session=%s closed: %s\n", id.c_str(), why.c_str());
      server.state->on_closed(id, now());
    }
    void on_transport_packet(Bytes packet, bool rtcp, int64_t arrival_us) override {
      if (rtcp) server.forwarder->on_rtcp(id, packet, arrival_us);
      else server.forwarder->on_rtp(id, packet, arrival_us);
    }
    void on_transport_heard(int64_t now_us) override { server.forwarder->heard(id, now_us); }
    Impl& server;
    std::string id;
    std::unique_ptr<Transport> transport;
  };

  struct Call {
    RequestId id;
    gref<SoupServerMessage> message;
    std::string method, path, body;
    int64_t started_us;
    Fault fault;
    gulong finished = 0;
  };
  struct Record {
    int64_t wall_us;
    std::string method, path, request, response;
    int status;
    double ms;
  };
  struct Waiter {  // of a stream document
    gref<SoupServerMessage> message;
    std::string name, known;
    int64_t deadline_us;
  };

  Result<Done> start();
  void handle(SoupServerMessage* message, const char* path);
  void handle_debug(SoupServerMessage* message, const std::string& path, const std::string& body);
  void handle_stream(SoupServerMessage* message, const std::string& name, const std::string& body);
  void handle_turn(SoupServerMessage* message, const std::string& path, const std::string& body);
  void answer(SoupServerMessage* message, int status, const std::string& body);
  void finish(Call& call, const ApiReply& reply);
  void send(Call& call, int status, const std::string& body);
  void record(const Call& call, int status, const std::string& response);
  void wake_waiters(const std::string& name);
  std::string bearer(SoupServerMessage* message) const;
  void tick();
  std::string stats() const;
  std::string requests() const;

  // SfuState::Hooks
  std::optional<LocalTransport> open_transport(const std::string& session) override;
  void set_remote(const std::string& session, const RemoteTransport& remote) override;
  void close_transport(const std::string& session) override;
  void reply(RequestId request, const ApiReply& reply) override;
  // Forwarder::Output
  void send_rtp(const std::string& session, Bytes packet) override;
  void send_rtcp(const std::string& session, Bytes packet) override;
  void media_started(const TrackAddress& track) override;

  const ServerSettings settings;
  GMainContext* context;
  gref<SoupServer> soup;
  unsigned port = 0;
  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<SfuState> state;
  std::map<std::string, std::unique_ptr<Link>> links;
  std::map<RequestId, std::unique_ptr<Call>> calls;
  std::vector<Waiter> waiters;
  std::vector<TrackAddress> started;  // media that began while packets were being handled
  RequestId next_call = 1;
  std::deque<Record> log;
  FaultTable faults;
  Streams streams;
  GSource* ticker = nullptr;
  unsigned ticks = 0;
};

SfuServer::Impl::~Impl() {
  if (ticker) {
    g_source_destroy(ticker);
    g_source_unref(ticker);
  }
  if (soup) soup_server_disconnect(soup.get());
  calls.clear();
  waiters.clear();
  links.clear();
  g_main_context_unref(context);
}

Result<Done> SfuServer::Impl::start() {
  Transport::prepare();  // or the first session waits for the certificate
  int64_t wall = g_get_real_time() - now();
  forwarder = std::make_unique<Forwarder>(*this, wall, g_random_int());
  state = std::make_unique<SfuState>(settings.sfu, *this, *forwarder, g_random_int());
  g_main_context_push_thread_default(context);
  soup = gref<SoupServer>::adopt(soup_server_new("server-header", "cfrealtime-sfu ", nullptr));
  soup_server_add_handler(
      soup.get(), nullptr,
      [](SoupServer*, SoupServerMessage* message, const char* path, GHashTable*, gpointer self) {
        static_cast<Impl*>(self)->handle(message, path);
      },
      this, nullptr);
  g_autoptr(GError) error = nullptr;
  g_autoptr(GSocketAddress) address =
      g_inet_socket_address_new_from_string(settings.address.c_str(), settings.port);
  bool listening = address && soup_server_listen(soup.get(), address, SoupServerListenOptions(0),
                                                 &error);
  if (listening) {
    GSList* uris = soup_server_get_uris(soup.get());
    port = unsigned(g_uri_get_port(static_cast<GUri*>(uris->data)));
    g_slist_free_full(uris, reinterpret_cast<GDestroyNotify>(g_uri_unref));
  }
  ticker = g_timeout_source_new(kTickMs);
  g_source_set_callback(
      ticker,
      [](gpointer self) -> gboolean {
        static_cast<Impl*>(self)->tick();
        return G_SOURCE_CONTINUE;
      },
      this, nullptr);
  g_source_attach(ticker, context);
  g_main_context_pop_thread_default(context);
  if (listening) return Done{};
  Error problem;
  problem.kind = ErrorKind::config;
  problem.message = "Cannot listen on " + settings.address + ":" + std::to_string(settings.port) +
                    ": " + (error ? error->message : "not an IP address");
  return problem;
}

void SfuServer::Impl::tick() {
  int64_t time = now();
  forwarder->on_tick(time);
  for (const TrackAddress& track : std::exchange(started, {})) state->on_media(track, time);
  if (++ticks % kStateTicks == 0) state->on_tick(time);
  for (std::size_t i = waiters.size(); i-- > 0;) {
    if (waiters[i].deadline_us > time) continue;
    Waiter waiter = std::move(waiters[i]);
    waiters.erase(waiters.begin() + std::ptrdiff_t(i));
    auto reply = streams.get(waiter.name, waiter.known);
    answer(waiter.message.get(), reply.status, reply.body);
    soup_server_message_unpause(waiter.message.get());
  }
}

// --- HTTP ------------------------------------------------------------------------------------

std::string SfuServer::Impl::bearer(SoupServerMessage* message) const {
  const char* value = soup_message_headers_get_one(
      soup_server_message_get_request_headers(message), "Authorization");
  return value && g_ascii_strncasecmp(value, "Bearer ", 7) == 0 ? value + 7 : "";
}

void SfuServer::Impl::answer(SoupServerMessage* message, int status, const std::string& body) {
  soup_server_message_set_status(message, guint(status), nullptr);
  SoupMessageHeaders* headers = soup_server_message_get_response_headers(message);
  soup_message_headers_replace(headers, "vary", "Origin");
  soup_message_headers_replace(headers, "Access-Control-Allow-Origin", "*");
  soup_message_headers_replace(headers, "Access-Control-Expose-Headers", "ETag, Retry-After");
  if (!body.empty())
    soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY, body.data(),
                                     body.size());
}

void SfuServer::Impl::handle(SoupServerMessage* message, const char* raw_path) {
  std::string path = raw_path;
  std::string method = soup_server_message_get_method(message);
  SoupMessageBody* request = soup_server_message_get_request_body(message);
  g_autoptr(GBytes) bytes = soup_message_body_flatten(request);
  gsize size = 0;
  auto* data = static_cast<const char*>(g_bytes_get_data(bytes, &size));
  std::string body = data ? std::string(data, size) : "";

  if (method == "OPTIONS") {  // browsers ask before they call
    answer(message, 204, "");
    SoupMessageHeaders* headers = soup_server_message_get_response_headers(message);
    soup_message_headers_replace(headers, "Access-Control-Allow-Methods",
                                 "GET, POST, PUT, DELETE, OPTIONS");
    soup_message_headers_replace(headers, "Access-Control-Allow-Headers",
                                 "Authorization, Content-Type, If-None-Match, Prefer");
    soup_message_headers_replace(headers, "Access-Control-Max-Age", "86400");
    return;
  }
  if (path.rfind("/debug/", 0) == 0) return handle_debug(message, path.substr(7), body);

  auto call = std::make_unique<Call>();
  call->id = next_call++;
  call->message = gref<SoupServerMessage>::ref(message);
  call->method = method;
  call->path = path;
  call->body = body;
  call->started_us = now();
  std::string operation = path.rfind("/streams/", 0) == 0 ? "streams" : operation_of(path);
  if (auto fault = faults.strike(operation)) call->fault = *fault;
  if (size > kMaxBody)
    return send(*call, 413, json::write(ApiError{"payload_too_large", "The body is too big"}));
  if (call->fault.status) {
    if (call->fault.retry_after_s)
      soup_message_headers_replace(soup_server_message_get_response_headers(message), "Retry-After",
                                   std::to_string(call->fault.retry_after_s).c_str());
    std::string code = call->fault.code.empty() ? "internal_error" : call->fault.code;
    return send(*call, call->fault.status, json::write(ApiError{code, "A fault was asked for"}));
  }
  if (operation == "streams") return handle_stream(message, path.substr(9), body);
  if (path.rfind("/v1/", 0) != 0)
    return send(*call, 404, json::write(ApiError{"not_found", "No such endpoint"}));
  if (path.rfind("/v1/turn/", 0) == 0) return handle_turn(message, path.substr(9), body);

  ApiRequest api{method, path.substr(3), body, bearer(message)};
  RequestId id = call->id;
  soup_server_message_pause(message);
  struct Gone {
    Impl* server;
    RequestId id;
  };
  call->finished = g_signal_connect_data(
      message, "disconnected", G_CALLBACK(+[](SoupServerMessage*, Gone* gone) {
        gone->server->state->on_cancelled(gone->id);
        gone->server->calls.erase(gone->id);
      }),
      new Gone{this, id}, [](gpointer data, GClosure*) { delete static_cast<Gone*>(data); },
      GConnectFlags(0));
  calls[id] = std::move(call);
  state->on_request(id, api, now());
}

void SfuServer::Impl::reply(RequestId id, const ApiReply& reply) {
  auto found = calls.find(id);
  if (found == calls.end()) return;
  auto call = std::shared_ptr<Call>(std::move(found->second));
  calls.erase(found);
  g_signal_handler_disconnect(call->message.get(), call->finished);
  if (!call->fault.delay_ms) return finish(*call, reply);
  struct Late {
    Impl* server;
    std::shared_ptr<Call> call;
    ApiReply reply;
  };
  GSource* source = g_timeout_source_new(call->fault.delay_ms);
  g_source_set_callback(
      source,
      [](gpointer data) -> gboolean {
        auto* late = static_cast<Late*>(data);
        late->server->finish(*late->call, late->reply);
        return G_SOURCE_REMOVE;
      },
      new Late{this, call, reply}, [](gpointer data) { delete static_cast<Late*>(data); });
  g_source_attach(source, context);
  g_source_unref(source);
}

void SfuServer::Impl::finish(Call& call, const ApiReply& reply) {
  SoupServerMessage* message = call.message.get();
  if (call.fault.drop) {
    record(call, 0, "");
    if (GSocket* socket = soup_server_message_get_socket(message)) g_socket_close(socket, nullptr);
    return;
  }
  if (reply.retry_after_s)
    soup_message_headers_replace(soup_server_message_get_response_headers(message), "Retry-After",
                                 std::to_string(reply.retry_after_s).c_str());
  send(call, reply.status, call.fault.garbage ? "<html>not what you expect" : reply.body);
  soup_server_message_unpause(message);
}

void SfuServer::Impl::send(Call& call, int status, const std::string& body) {
  answer(call.message.get(), status, body);
  record(call, status, body);
}

void SfuServer::Impl::record(const Call& call, int status, const std::string& response) {
  double ms = double(now() - call.started_us) / 1000;
  log.push_back({g_get_real_time(), call.method, call.path, call.body, response, status, ms});
  if (log.size() > kMaxRequests) log.pop_front();
  if (settings.log)
    std::fprintf(stderr, "method=%s path=%s status=%d ms=%.1f\n", call.method.c_str(),
                 call.path.c_str(), status, ms);
}

void SfuServer::Impl::handle_turn(SoupServerMessage* message, const std::string& path,
                                  const std::string& body) {
  Call call{0, gref<SoupServerMessage>::ref(message), soup_server_message_get_method(message),
            "/v1/turn/" + path, body, now(), {}};
  auto ends = [&](const char* end) { return g_str_has_suffix(path.c_str(), end); };
  if (call.method != "POST")
    return send(call, 405, json::write(ApiError{"method_not_allowed", "Use POST"}));
  if (!settings.sfu.app_secret.empty() && bearer(message) != settings.sfu.app_secret)
    return send(call, 401, json::write(ApiError{"unauthorized", "The token of the key is wrong"}));
  if (ends("/revoke")) return send(call, 204, "");
  if (!ends("/credentials/generate-ice-servers") && !ends("/credentials/generate"))
    return send(call, 404, json::write(ApiError{"not_found", "No such endpoint"}));
  auto request = json::read_ice_servers_request(body);
  if (!request)
    return send(call, 400, json::write(ApiError{"decoding_error", request.error().message}));
  std::vector<IceServer> servers = {{{"stun:stun.cloudflare.com:3478"}, "", ""}};
  if (!settings.turn_url.empty()) {
    // coturn's time-limited credentials (draft-uberti-behave-turn-rest-00).
    std::string user = std::to_string(g_get_real_time() / G_USEC_PER_SEC + request->ttl_s) + ":sfu";
    guint8 digest[20];
    gsize length = sizeof digest;
    GHmac* hmac = g_hmac_new(G_CHECKSUM_SHA1,
                             reinterpret_cast<const guchar*>(settings.turn_secret.data()),
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
  send(call, 201, json::write(servers));
}

void SfuServer::Impl::handle_stream(SoupServerMessage* message, const std::string& name,
                                    const std::string& body) {
  Call call{0, gref<SoupServerMessage>::ref(message), soup_server_message_get_method(message),
            "/streams/" + name, body, now(), {}};
  if (!settings.stream_token.empty() && bearer(message) != settings.stream_token)
    return send(call, 401, json::write(ApiError{"unauthorized", "The stream token is wrong"}));
  SoupMessageHeaders* headers = soup_server_message_get_request_headers(message);
  auto header = [headers](const char* field) {
    const char* value = soup_message_headers_get_one(headers, field);
    return std::string(value ? value : "");
  };
  auto finish = [&](const Streams::Reply& reply) {
    if (!reply.etag.empty())
      soup_message_headers_replace(soup_server_message_get_response_headers(message), "ETag",
                                   reply.etag.c_str());
    send(call, reply.status, reply.body);
  };
  if (call.method == "PUT") {
    finish(streams.put(name, body));
    wake_waiters(name);
  } else if (call.method == "DELETE") {
    finish(streams.remove(name));
    wake_waiters(name);
  } else if (call.method == "GET") {
    std::string known = header("If-None-Match"), prefer = header("Prefer");
    auto reply = streams.get(name, known);
    unsigned wait_s = 0;
    if (auto at = prefer.find("wait="); at != std::string::npos)
      wait_s = std::min<unsigned>(kMaxStreamWaitS, unsigned(g_ascii_strtoull(
                                                       prefer.c_str() + at + 5, nullptr, 10)));
    // No change yet, or no stream yet: the question waits for one.
    if (wait_s && (reply.status == 304 || (reply.status == 404 && known.empty()))) {
      soup_server_message_pause(message);
      waiters.push_back({gref<SoupServerMessage>::ref(message), name, known,
                         now() + int64_t(wait_s) * G_USEC_PER_SEC});
      return;
    }
    finish(reply);
  } else {
    send(call, 405, json::write(ApiError{"method_not_allowed", "Use GET, PUT or DELETE"}));
  }
}

void SfuServer::Impl::wake_waiters(const std::string& name) {
  auto all = std::move(waiters);
  waiters.clear();
  for (Waiter& waiter : all) {
    auto reply = streams.get(waiter.name, waiter.known);
    bool changed = waiter.name == name && (reply.status == 200 ||
                                           (reply.status == 404 && !waiter.known.empty()));
    if (!changed) {
      waiters.push_back(std::move(waiter));
      continue;
    }
    answer(waiter.message.get(), reply.status, reply.body);
    if (!reply.etag.empty())
      soup_message_headers_replace(soup_server_message_get_response_headers(waiter.message.get()),
                                   "ETag", reply.etag.c_str());
    soup_server_message_unpause(waiter.message.get());
  }
}

// --- /debug ----------------------------------------------------------------------------------

void SfuServer::Impl::handle_debug(SoupServerMessage* message, const std::string& path,
                                   const std::string& body) {
  std::string method = soup_server_message_get_method(message);
  if (path == "requests" && method == "GET") return answer(message, 200, requests());
  if (path == "stats" && method == "GET") return answer(message, 200, stats());
  if (path == "faults" && method == "POST") {
    auto fault = read_fault(body);
    if (!fault)
      return answer(message, 400, json::write(ApiError{"decoding_error", fault.error().message}));
    faults.add(*fault);
    return answer(message, 200, "{}");
  }
  if (path == "faults" && method == "DELETE") {
    faults.clear();
    return answer(message, 200, "{}");
  }
  // A transport dies silently: POST /debug/kill/{session}, or all of them.
  if (path.rfind("kill", 0) == 0 && method == "POST") {
    std::string id = path.size() > 5 ? path.substr(5) : "";
    for (auto& [session, link] : links)
      if (id.empty() || id == session) link->transport->kill();
    return answer(message, 200, "{}");
  }
  if (path == "restart" && method == "POST") {
    state->forget_all();
    streams.clear();
    return answer(message, 200, "{}");
  }
  answer(message, 404, json::write(ApiError{"not_found", "No such endpoint"}));
}

static std::string take(JsonBuilder* builder) {
  JsonNode* root = json_builder_get_root(builder);
  g_autofree char* text = json_to_string(root, FALSE);
  json_node_unref(root);
  g_object_unref(builder);
  return text;
}

// A body as JSON if it is JSON, else as text; left out if there was none.
static void add_body(JsonBuilder* builder, const char* name, const std::string& body) {
  if (body.empty()) return;
  json_builder_set_member_name(builder, name);
  g_autoptr(JsonParser) parser = json_parser_new();
  if (json_parser_load_from_data(parser, body.data(), gssize(body.size()), nullptr) &&
      json_parser_get_root(parser)) {
    json_builder_add_value(builder, json_parser_steal_root(parser));
  } else {
    g_autofree char* text = g_utf8_make_valid(body.data(), gssize(body.size()));
    json_builder_add_string_value(builder, text);
  }
}

std::string SfuServer::Impl::requests() const {
  JsonBuilder* builder = json_builder_new();
  json_builder_begin_object(builder);
  json_builder_set_member_name(builder, "requests");
  json_builder_begin_array(builder);
  for (const Record& record : log) {
    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "time");
    json_builder_add_double_value(builder, double(record.wall_us) / 1e6);
    json_builder_set_member_name(builder, "method");
    json_builder_add_string_value(builder, record.method.c_str());
    json_builder_set_member_name(builder, "path");
    json_builder_add_string_value(builder, record.path.c_str());
    json_builder_set_member_name(builder, "status");
    json_builder_add_int_value(builder, record.status);
    json_builder_set_member_name(builder, "ms");
    json_builder_add_double_value(builder, record.ms);
    add_body(builder, "request", record.request);
    add_body(builder, "response", record.response);
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  json_builder_end_object(builder);
  return take(builder);
}

std::string SfuServer::Impl::stats() const {
  JsonBuilder* builder = json_builder_new();
  auto text = [builder](const char* name, const std::string& value) {
    json_builder_set_member_name(builder, name);
    json_builder_add_string_value(builder, value.c_str());
  };
  auto number = [builder](const char* name, double value) {
    json_builder_set_member_name(builder, name);
    if (value == double(gint64(value))) json_builder_add_int_value(builder, gint64(value));
    else json_builder_add_double_value(builder, value);
  };
  auto flag = [builder](const char* name, bool value) {
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
  };
  auto ingress = forwarder->ingress_stats();
  auto egress = forwarder->egress_stats();
  json_builder_begin_object(builder);
  json_builder_set_member_name(builder, "sessions");
  json_builder_begin_array(builder);
  for (const auto& session : state->sessions()) {
    json_builder_begin_object(builder);
    text("id", session.id);
    flag("connected", session.connected);
    flag("gone", session.dead);
    json_builder_set_member_name(builder, "tracks");
    json_builder_begin_array(builder);
    for (const auto& track : ingress) {
      if (track.track.session != session.id) continue;
      json_builder_begin_object(builder);
      text("mid", track.track.mid);
      text("name", state->track_name(track.track));
      text("kind", track.kind);
      text("codec", track.codec);
      text("rid", track.rid);
      number("ssrc", track.ssrc);
      number("packets", double(track.packets));
      number("bytes", double(track.bytes));
      number("lost", double(track.lost));
      number("recovered", double(track.recovered));
      number("nacks", double(track.nacks));
      number("key_frame_requests", double(track.key_frame_requests));
      number("jitter_ms", track.jitter_ms);
      number("first_packet_us", double(track.first_packet_us));
      number("last_packet_us", double(track.last_packet_us));
      json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_set_member_name(builder, "pulls");
    json_builder_begin_array(builder);
    for (const auto& pull : egress) {
      if (pull.puller.session != session.id) continue;
      json_builder_begin_object(builder);
      text("mid", pull.puller.mid);
      text("session", pull.source.session);
      text("name", state->track_name(pull.source));
      number("ssrc", pull.ssrc);
      number("packets", double(pull.packets));
      number("bytes", double(pull.bytes));
      number("nacks", double(pull.nacks));
      number("resent", double(pull.resent));
      number("key_frame_requests", double(pull.key_frame_requests));
      number("no_codec", double(pull.no_codec));
      number("fraction_lost", pull.fraction_lost);
      json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  json_builder_end_object(builder);
  return take(builder);
}

// --- transports ------------------------------------------------------------------------------

std::optional<LocalTransport> SfuServer::Impl::open_transport(const std::string& session) {
  auto link = std::make_unique<Link>(*this, session);
  auto transport = Transport::open(context, settings.address, *link);
  if (!transport) {
    std::fprintf(stderr, "session=%s no transport: %s\n", session.c_str(),
                 transport.error().message.c_str());
    return std::nullopt;
  }
  link->transport = std::move(*transport);
  LocalTransport local = link->transport->local();
  links[session] = std::move(link);
  return local;
}

void SfuServer::Impl::set_remote(const std::string& session, const RemoteTransport& remote) {
  auto link = links.find(session);
  if (link != links.end()) link->second->transport->set_remote(remote);
}

void SfuServer::Impl::close_transport(const std::string& session) {
  auto found = links.find(session);
  if (found == links.end()) return;
  // Perhaps from within a callback of the transport: it goes when that has returned.
  auto* link = found->second.release();
  links.erase(found);
  GSource* source = g_idle_source_new();
  g_source_set_callback(
      source, [](gpointer) -> gboolean { return G_SOURCE_REMOVE; }, link,
      [](gpointer data) { delete static_cast<Link*>(data); });
  g_source_attach(source, context);
  g_source_unref(source);
}

void SfuServer::Impl::send_rtp(const std::string& session, Bytes packet) {
  auto link = links.find(session);
  if (link != links.end()) link->second->transport->send(packet, false);
}

void SfuServer::Impl::send_rtcp(const std::string& session, Bytes packet) {
  auto link = links.find(session);
  if (link != links.end()) link->second->transport->send(packet, true);
}

void SfuServer::Impl::media_started(const TrackAddress& track) { started.push_back(track); }

// --- the server ------------------------------------------------------------------------------

SfuServer::SfuServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SfuServer::~SfuServer() = default;

Result<std::unique_ptr<SfuServer>> SfuServer::start(GMainContext* context,
                                                    ServerSettings settings) {
  auto impl = std::make_unique<Impl>(std::move(settings), context);
  auto started = impl->start();
  if (!started) return started.error();
  return std::unique_ptr<SfuServer>(new SfuServer(std::move(impl)));
}

unsigned SfuServer::port() const { return impl_->port; }

std::string SfuServer::url() const {
  return "http://" + impl_->settings.address + ":" + std::to_string(impl_->port) + "/v1";
}

}  // namespace cfr::sfu
