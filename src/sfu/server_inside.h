// The inside of SfuServer, for its own files.
#pragma once

#include <libsoup/soup.h>

#include <cstdio>
#include <deque>
#include <list>

#include "sfu/faults.h"
#include "sfu/server.h"
#include "sfu/streams.h"
#include "util/gref.h"
#include "wire/json.h"

namespace cfr::sfu {

inline int64_t now() {
  return g_get_monotonic_time();
}

struct SfuServer::Impl : SfuState::Hooks, Forwarder::Output {
  explicit Impl(ServerSettings settings, GMainContext* context)
      : settings(std::move(settings)), context(g_main_context_ref(context)) {}
  ~Impl() override;

  struct Link : Transport::Listener {
    Link(Impl& server, std::string id) : server(server), id(std::move(id)) {}
    void on_transport_connected() override { server.state->on_connected(id, now()); }
    void on_transport_closed(const std::string& why) override {
      if (server.settings.log)
        std::fprintf(stderr, "session=%s closed: %s\n", id.c_str(), why.c_str());
      server.state->on_closed(id, now());
    }
    void on_transport_packet(Bytes packet, bool rtcp, int64_t arrival_us) override {
      if (rtcp)
        server.forwarder->on_rtcp(id, packet, arrival_us);
      else
        server.forwarder->on_rtp(id, packet, arrival_us);
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
    // While the call waits: tells that its client has gone away.
    std::function<void()> on_gone;
    gulong disconnected = 0;
    GSource* hang_up = nullptr;

    Call() = default;
    Call(const Call&) = delete;
    ~Call() { release(); }
    void hold(GMainContext* context, std::function<void()> gone);
    void release();
  };
  struct Waiter {  // for a change of a stream document
    std::unique_ptr<Call> call;
    std::string name, known;
    int64_t deadline_us;
  };
  struct Late {  // a reply that a fault holds back
    Impl* server;
    std::shared_ptr<Call> call;
    ApiReply reply;
    GSource* source;
  };

  Result<Done> start();
  void prepare(SoupServerMessage* message);
  void handle(SoupServerMessage* message, const char* path);
  void handle_debug(SoupServerMessage* message, const std::string& path, const std::string& body);
  void handle_stream(std::unique_ptr<Call> call, const std::string& name);
  ApiReply turn(SoupServerMessage* message, const std::string& method, const std::string& path,
                const std::string& body);
  void answer(SoupServerMessage* message, int status, const std::string& body);
  void set_header(const Call& call, const char* name, const std::string& value);
  void conclude(std::shared_ptr<Call> call, const ApiReply& reply);
  void finish(Call& call, const ApiReply& reply);
  void record(const Call& call, int status, const std::string& response);
  void answer_stream(std::unique_ptr<Call> call, const Streams::Reply& reply);
  void wake_waiters(const std::string& name);
  std::string bearer(SoupServerMessage* message) const;
  void tick();
  std::string stats() const;
  std::string requests() const;

  // SfuState::Hooks
  std::optional<LocalTransport> open_transport(const std::string& session) override;
  void set_remote(const std::string& session, const RemoteTransport& remote) override;
  void expect_another_connection(const std::string& session) override;
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
  std::deque<RequestRecord> log;
  std::size_t log_bytes = 0;
  Observer observer;
  std::list<Late> late;
  FaultTable faults;
  Streams streams;
  GSource* ticker = nullptr;
  unsigned ticks = 0;
};

}  // namespace cfr::sfu
