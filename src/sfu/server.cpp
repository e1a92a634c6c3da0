#include "sfu/server.h"

#include <glib-unix.h>
#include <gst/gst.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sfu/server_inside.h"

namespace cfr::sfu {

namespace {

constexpr unsigned kTickMs = 20;
constexpr unsigned kStateTicks = 5;  // of kTickMs: how often deadlines of sessions are looked at
constexpr std::size_t kMaxRequests = 1000, kMaxRequestBytes = 32 << 20;  // that are remembered
constexpr std::size_t kMaxBody = 1 << 20;
constexpr char kTooBig[] = "cfr-too-big", kDeadline[] = "cfr-deadline";
// The last descriptors: none of these stays with a connection; sessions leave some for connections.
constexpr int kSpareDescriptors = 64, kSpareForSessions = 96;

bool is_spare(int descriptor, int spare) {
  rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && rlim_t(descriptor + spare) >= limit.rlim_cur;
}

// Whether the next session's would be one of these: it gets the lowest that is free.
bool no_room_for_session(SoupServerMessage* message) {
  GSocket* socket = soup_server_message_get_socket(message);
  int next = socket ? dup(g_socket_get_fd(socket)) : -1;
  if (next < 0) return true;
  close(next);
  return is_spare(next, kSpareForSessions);
}

// An idle connection could be kept for ever. libsoup before 3.3.0 even leaks it, descriptor and
// all, when the client closes it.
void close_after_reply(SoupServerMessage* message) {
  soup_message_headers_replace(soup_server_message_get_response_headers(message), "Connection",
                               "close");
}

// Fit for a line of the log.
std::string printable(std::string text) {
  for (char& c : text)
    if (c <= ' ' || c >= 0x7f) c = '?';
  return text;
}

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

SfuServer::Impl::~Impl() {
  if (ticker) {
    g_source_destroy(ticker);
    g_source_unref(ticker);
  }
  for (const Late& each : late) {
    g_source_destroy(each.source);
    g_source_unref(each.source);
  }
  for (auto& [id, call] : calls) call->release();
  for (Waiter& waiter : waiters) waiter.call->release();
  for (const Late& each : late) each.call->release();
  if (soup) soup_server_disconnect(soup.get());
  late.clear();
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
  g_signal_connect(soup.get(), "request-started",
                   G_CALLBACK(+[](SoupServer*, SoupServerMessage* message, gpointer self) {
                     static_cast<Impl*>(self)->prepare(message);
                   }),
                   this);
  soup_server_add_handler(
      soup.get(), nullptr,
      [](SoupServer*, SoupServerMessage* message, const char* path, GHashTable*, gpointer self) {
        static_cast<Impl*>(self)->handle(message, path);
      },
      this, nullptr);
  g_autoptr(GError) error = nullptr;
  g_autoptr(GSocketAddress) address =
      g_inet_socket_address_new_from_string(settings.address.c_str(), settings.port);
  bool listening =
      address && soup_server_listen(soup.get(), address, SoupServerListenOptions(0), &error);
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
    answer_stream(std::move(waiter.call), streams.get(waiter.name, waiter.known));
  }
}

// --- HTTP ------------------------------------------------------------------------------------

std::string SfuServer::Impl::bearer(SoupServerMessage* message) const {
  const char* value = soup_message_headers_get_one(soup_server_message_get_request_headers(message),
                                                   "Authorization");
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

// When a connection has been accepted, before a byte of its request is read.
void SfuServer::Impl::prepare(SoupServerMessage* message) {
  // With no descriptor left libsoup would fail to accept, and then never listen again.
  GSocket* socket = soup_server_message_get_socket(message);
  if (socket && is_spare(g_socket_get_fd(socket), kSpareDescriptors)) {
    g_socket_close(socket, nullptr);
    return;
  }
  close_after_reply(message);
  // Bodies are small; what is more is not kept.
  g_signal_connect(message, "got-chunk",
                   G_CALLBACK(+[](SoupServerMessage* message, GBytes*, gpointer) {
                     SoupMessageBody* body = soup_server_message_get_request_body(message);
                     if (body->length <= goffset(kMaxBody)) return;
                     g_object_set_data(G_OBJECT(message), kTooBig, message);
                     soup_message_body_set_accumulate(body, FALSE);
                   }),
                   nullptr);
  // Only the request has to come in time; the reply may wait for much.
  GSource* deadline = g_timeout_source_new(settings.request_wait_ms);
  g_source_set_callback(
      deadline,
      [](gpointer data) -> gboolean {
        auto* message = static_cast<SoupServerMessage*>(data);
        if (GSocket* socket = soup_server_message_get_socket(message))
          g_socket_shutdown(socket, TRUE, TRUE, nullptr);
        return G_SOURCE_REMOVE;
      },
      message, nullptr);
  g_source_attach(deadline, context);
  g_object_set_data_full(G_OBJECT(message), kDeadline, deadline, [](gpointer data) {
    auto* source = static_cast<GSource*>(data);
    g_source_destroy(source);
    g_source_unref(source);
  });
  g_signal_connect(message, "got-body", G_CALLBACK(+[](SoupServerMessage* message, gpointer) {
                     g_object_set_data(G_OBJECT(message), kDeadline, nullptr);
                     close_after_reply(message);  // "100 Continue" has cleared the headers
                   }),
                   nullptr);
}

void SfuServer::Impl::handle(SoupServerMessage* message, const char* raw_path) {
  std::string path = raw_path;
  std::string method = soup_server_message_get_method(message);
  bool too_big = g_object_get_data(G_OBJECT(message), kTooBig) != nullptr;
  std::string body;
  if (!too_big) {
    g_autoptr(GBytes) bytes =
        soup_message_body_flatten(soup_server_message_get_request_body(message));
    gsize size = 0;
    auto* data = static_cast<const char*>(g_bytes_get_data(bytes, &size));
    if (data) body.assign(data, size);
  }

  if (method == "OPTIONS") {  // browsers ask before they call
    answer(message, 204, "");
    SoupMessageHeaders* headers = soup_server_message_get_response_headers(message);
    soup_message_headers_replace(headers, "Access-Control-Allow-Methods",
                                 "GET, POST, PUT, DELETE, OPTIONS");
    // Any header may be sent along. "*" would not cover Authorization, so what is asked for is
    // named.
    const char* wanted = soup_message_headers_get_list(
        soup_server_message_get_request_headers(message), "Access-Control-Request-Headers");
    std::string allowed = "Authorization, Content-Type, If-None-Match, Prefer";
    if (wanted && *wanted) allowed += std::string(", ") + wanted;
    soup_message_headers_replace(headers, "Access-Control-Allow-Headers", allowed.c_str());
    soup_message_headers_replace(headers, "Access-Control-Max-Age", "86400");
    return;
  }
  if (path.rfind("/debug/", 0) == 0) return handle_debug(message, path.substr(7), body);

  auto call = std::make_unique<Call>();
  call->id = next_call++;
  call->message = gref<SoupServerMessage>::ref(message);
  call->method = method;
  call->path = path;
  call->started_us = now();
  std::string operation = path.rfind("/streams/", 0) == 0 ? "streams" : operation_of(path);
  if (auto fault = faults.strike(operation)) call->fault = *fault;
  soup_server_message_pause(message);
  auto error = [](int status, const char* code, const char* text) {
    return ApiReply{status, json::write(ApiError{code, text}), 0};
  };
  if (too_big)
    return conclude(std::move(call), error(413, "payload_too_large", "The body is too big"));
  call->body = body;
  if (call->fault.status) {
    std::string code = call->fault.code.empty() ? "internal_error" : call->fault.code;
    ApiReply reply = error(call->fault.status, code.c_str(), "A fault was asked for");
    reply.retry_after_s = call->fault.retry_after_s;
    return conclude(std::move(call), reply);
  }
  if (operation == "streams") return handle_stream(std::move(call), path.substr(9));
  if (path.rfind("/v1/", 0) != 0)
    return conclude(std::move(call), error(404, "not_found", "No such endpoint"));
  if (path.rfind("/v1/turn/", 0) == 0) {
    ApiReply reply = turn(message, method, path.substr(9), body);
    return conclude(std::move(call), reply);
  }

  if (operation == "sessions/new" && no_room_for_session(message))
    return conclude(std::move(call), error(503, "temporarily_unavailable_error",
                                           "No descriptors are left for a session"));

  ApiRequest api{method, path.substr(3), body, bearer(message)};
  RequestId id = call->id;
  call->hold(context, [this, id] {
    state->on_cancelled(id);
    calls.erase(id);
  });
  calls[id] = std::move(call);
  state->on_request(id, api, now());
}

// A paused message does not read from its socket, so libsoup does not see the client go.
void SfuServer::Impl::Call::hold(GMainContext* context, std::function<void()> gone) {
  release();
  on_gone = std::move(gone);
  disconnected =
      g_signal_connect_swapped(message.get(), "disconnected", G_CALLBACK(+[](Call* call) {
                                 auto action = std::move(call->on_gone);
                                 call->release();
                                 action();  // which may delete the call
                               }),
                               this);
  GSocket* socket = soup_server_message_get_socket(message.get());
  if (!socket) return;
  hang_up = g_unix_fd_source_new(g_socket_get_fd(socket), GIOCondition(POLLRDHUP));
  GUnixFDSourceFunc closed = [](gint, GIOCondition, gpointer data) -> gboolean {
    auto* call = static_cast<Call*>(data);
    auto message = call->message;
    auto action = std::move(call->on_gone);
    call->release();
    action();
    // With its connection the message ends.
    if (GSocket* socket = soup_server_message_get_socket(message.get()))
      g_socket_shutdown(socket, TRUE, TRUE, nullptr);
    soup_server_message_unpause(message.get());
    return G_SOURCE_REMOVE;
  };
  g_source_set_callback(hang_up, G_SOURCE_FUNC(closed), this, nullptr);
  g_source_attach(hang_up, context);
}

void SfuServer::Impl::Call::release() {
  if (disconnected) g_signal_handler_disconnect(message.get(), std::exchange(disconnected, 0));
  if (!hang_up) return;
  g_source_destroy(hang_up);
  g_source_unref(std::exchange(hang_up, nullptr));
}

void SfuServer::Impl::reply(RequestId id, const ApiReply& reply) {
  auto found = calls.find(id);
  if (found == calls.end()) return;
  auto call = std::move(found->second);
  calls.erase(found);
  conclude(std::move(call), reply);
}

// Sends the reply, at once or when the fault allows.
void SfuServer::Impl::conclude(std::shared_ptr<Call> call, const ApiReply& reply) {
  call->release();
  if (!call->fault.delay_ms) return finish(*call, reply);
  GSource* source = g_timeout_source_new(call->fault.delay_ms);
  Late* held = &late.emplace_back(Late{this, call, reply, source});
  auto drop = [](Late* held) {
    g_source_destroy(held->source);
    g_source_unref(held->source);
    held->server->late.remove_if([held](const Late& each) { return &each == held; });
  };
  call->hold(context, [held, drop] { drop(held); });
  g_source_set_callback(
      source,
      [](gpointer data) -> gboolean {
        auto* held = static_cast<Late*>(data);
        held->call->release();
        held->server->finish(*held->call, held->reply);
        g_source_unref(held->source);
        held->server->late.remove_if([held](const Late& each) { return &each == held; });
        return G_SOURCE_REMOVE;
      },
      held, nullptr);
  g_source_attach(source, context);
}

void SfuServer::Impl::set_header(const Call& call, const char* name, const std::string& value) {
  soup_message_headers_replace(soup_server_message_get_response_headers(call.message.get()), name,
                               value.c_str());
}

void SfuServer::Impl::finish(Call& call, const ApiReply& reply) {
  SoupServerMessage* message = call.message.get();
  if (call.fault.drop) {
    record(call, 0, "");
    // The end of the connection ends the message.
    if (GSocket* socket = soup_server_message_get_socket(message))
      g_socket_shutdown(socket, TRUE, TRUE, nullptr);
    soup_server_message_unpause(message);
    return;
  }
  if (reply.retry_after_s) set_header(call, "Retry-After", std::to_string(reply.retry_after_s));
  std::string body = call.fault.garbage ? "<html>not what you expect" : reply.body;
  answer(message, reply.status, body);
  if (reply.status == 405) set_header(call, "Allow", "GET, POST, PUT, DELETE, OPTIONS");
  record(call, reply.status, body);
  soup_server_message_unpause(message);
}

void SfuServer::Impl::record(const Call& call, int status, const std::string& response) {
  RequestRecord entry{g_get_real_time(),
                      call.method,
                      call.path,
                      call.body,
                      response,
                      status,
                      double(now() - call.started_us) / 1000};
  if (settings.log)
    std::fprintf(stderr, "method=%s path=%s status=%d ms=%.1f\n", entry.method.c_str(),
                 printable(entry.path).c_str(), status, entry.ms);
  if (observer) observer(entry);
  auto weight = [](const RequestRecord& each) {
    return each.request.size() + each.response.size() + each.path.size() + sizeof each;
  };
  log_bytes += weight(entry);
  log.push_back(std::move(entry));
  while (log.size() > kMaxRequests || (log_bytes > kMaxRequestBytes && log.size() > 1)) {
    log_bytes -= weight(log.front());
    log.pop_front();
  }
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

void SfuServer::Impl::expect_another_connection(const std::string& session) {
  auto link = links.find(session);
  if (link != links.end()) link->second->transport->expect_another();
}

void SfuServer::Impl::close_transport(const std::string& session) {
  auto found = links.find(session);
  if (found == links.end()) return;
  // Perhaps from within a callback of the transport: it says no more, and the link, which is in
  // use, goes when that has returned.
  auto* link = found->second.release();
  links.erase(found);
  link->transport.reset();
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

void SfuServer::Impl::media_started(const TrackAddress& track) {
  started.push_back(track);
}

// --- the server ------------------------------------------------------------------------------

SfuServer::SfuServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SfuServer::~SfuServer() = default;

Result<std::unique_ptr<SfuServer>> SfuServer::start(GMainContext* context, ServerSettings settings,
                                                    Observer observer) {
  auto impl = std::make_unique<Impl>(std::move(settings), context);
  impl->observer = std::move(observer);
  auto started = impl->start();
  if (!started) return started.error();
  return std::unique_ptr<SfuServer>(new SfuServer(std::move(impl)));
}

unsigned SfuServer::port() const {
  return impl_->port;
}

std::string SfuServer::url() const {
  bool six = impl_->settings.address.find(':') != std::string::npos;
  std::string host = six ? "[" + impl_->settings.address + "]" : impl_->settings.address;
  return "http://" + host + ":" + std::to_string(impl_->port) + "/v1";
}

}  // namespace cfr::sfu
