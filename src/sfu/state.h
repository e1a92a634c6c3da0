// Sessions, tracks and exchanges of the local SFU: what each API call does and answers. Pure: calls
// and the time in, replies and orders out (Hooks, Forwarder); no I/O, threads or clock.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sfu/forwarder.h"
#include "sfu/sdp.h"
#include "wire/types.h"

namespace cfr::sfu {

struct SfuSettings {
  std::string app_id = "demo";
  std::string app_secret;               // "" = any bearer, or none
  unsigned connect_wait_ms = 5000;      // inside an operation, for the client to be connected
  unsigned media_wait_ms = 8000;        // inside a pull, for the first media of a track
  unsigned track_timeout_ms = 30000;    // silence after which a track is collected
  unsigned session_timeout_ms = 30000;  // silence after which a session is gone
  unsigned unconnected_ms = 120000;     // age at which a session that never connected is gone
  unsigned calls_per_second = 50;       // on one session
  unsigned max_sessions = 1000;         // each holds a socket
  unsigned max_sections = 256;          // of one session
};

struct ApiRequest {
  std::string method;
  std::string path;  // after /v1, e.g. /apps/demo/sessions/new
  std::string body;
  std::string bearer;  // of the Authorization header
};

struct ApiReply {
  int status = 200;
  std::string body;  // JSON
  unsigned retry_after_s = 0;
};

using RequestId = uint64_t;

class SfuState {
 public:
  class Hooks {
   public:
    virtual ~Hooks() = default;
    // Opens the way for a session; nullopt if that cannot be done.
    virtual std::optional<LocalTransport> open_transport(const std::string& session) = 0;
    virtual void set_remote(const std::string& session, const RemoteTransport& remote) = 0;
    // The client may close its connection and make another with the same credentials.
    virtual void expect_another_connection(const std::string& session) {}
    virtual void close_transport(const std::string& session) = 0;
    virtual void reply(RequestId request, const ApiReply& reply) = 0;
  };

  SfuState(SfuSettings settings, Hooks& hooks, Forwarder& forwarder, uint32_t seed);
  ~SfuState();

  // Exactly one reply each, at once or later.
  void on_request(RequestId id, const ApiRequest& request, int64_t now_us);
  // The client went away: its request needs no reply.
  void on_cancelled(RequestId id);
  void on_connected(const std::string& session, int64_t now_us);
  void on_closed(const std::string& session, int64_t now_us);
  void on_media(const TrackAddress& track, int64_t now_us);
  void on_tick(int64_t now_us);

  struct SessionInfo {
    std::string id;
    bool connected = false, dead = false;
    unsigned pushes = 0, pulls = 0;
  };
  std::vector<SessionInfo> sessions() const;
  std::string track_name(const TrackAddress& track) const;
  // All sessions are gone, as after a restart.
  void forget_all();

 private:
  struct Section;
  struct Session;
  struct Pending {
    RequestId id;
    ApiRequest request;
    std::string session;  // that it is about; "" = none
    int64_t since_us;
  };
  enum class Wait { none, connected, media };

  // The reply, or what it waits for.
  struct Outcome {
    Wait wait = Wait::none;
    ApiReply reply;
  };
  Outcome serve(const ApiRequest& request, int64_t since_us, int64_t now_us, bool first_try);
  Outcome new_session(const ApiRequest& request, int64_t now_us);
  Outcome new_tracks(Session& session, const ApiRequest& request, int64_t since_us, int64_t now_us);
  Outcome push(Session& session, const TracksRequest& request, int64_t now_us);
  Outcome pull(Session& session, const TracksRequest& request, int64_t since_us, int64_t now_us);
  Outcome renegotiate(Session& session, const ApiRequest& request, int64_t now_us);
  Outcome update(Session& session, const ApiRequest& request, int64_t since_us, int64_t now_us);
  Outcome close(Session& session, const ApiRequest& request, int64_t now_us);
  Outcome inspect(Session& session) const;
  bool is_waiting(const Session& session) const;
  bool is_live(const Section& pull) const;

  std::optional<ApiReply> check_offer(const Session& session,
                                      const ClientDescription& description) const;
  std::optional<ApiReply> apply_offer(Session& session, const ClientDescription& description,
                                      int64_t now_us);
  std::string describe(Session& session, bool is_offer);
  void publish(Session& session, Section& section);
  void start_egress(Session& session, Section& section, int64_t now_us);
  void follow_client(Session& session, Section& section, int64_t now_us);
  void close_section(Session& session, Section& section, bool forced);
  std::vector<MediaCodec> codecs_to_offer(Session& session, const Section& source);
  void kill(Session& session);
  void retry_pending(int64_t now_us);
  Section* find_track(const std::string& session, const std::string& name, Session** owner);
  uint64_t random();
  std::string random_hex(unsigned digits);

  const SfuSettings settings_;
  Hooks& hooks_;
  Forwarder& forwarder_;
  uint64_t random_state_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
  std::deque<std::string> graveyard_;  // dead sessions, oldest first; a bounded number is kept
  std::vector<Pending> pending_;
};

}  // namespace cfr::sfu
