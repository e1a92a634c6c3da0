// Decides what has to happen next between us, the SFU and webrtcbin. Pure: no I/O, threads,
// clock, SDP parsing or logging. Every input returns actions for the caller to perform in order;
// the outcome of each action comes back as an input. At most one exchange is in flight.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "negotiation/backoff.h"
#include "util/error.h"
#include "util/result.h"
#include "wire/types.h"

namespace cfr {

// Names a track of ours for the life of the element; chosen by the caller, never reused.
using TrackId = uint32_t;

namespace action {
struct CreateSession {};                                  // -> on_session
struct NewPeer {};                                        // drop webrtcbin, take a new one; no reply
struct CreateOffer { std::vector<TrackId> tracks; };      // all pushes of this peer -> on_offer
struct PostTracks { std::string session_id; TracksRequest request; };      // -> on_tracks
struct SetRemote { SessionDescription description; };     // -> on_remote_set
struct CreateAnswer {};                                   // -> on_answer
struct PutAnswer { std::string session_id; std::string sdp; };             // -> on_answer_put
struct CloseTracks { std::string session_id; std::vector<std::string> mids; };  // force -> on_closed
struct StartTimer { uint32_t delay_ms; };                 // replaces the one before -> on_timer
struct StopTimer {};
struct SessionChanged { std::string session_id; };        // a session exists; "" = it was lost
struct MapMid { std::string mid; TrackId track; };        // before SetRemote: whose media this is
struct TrackLive { TrackId track; std::string mid; };     // its exchange is complete
struct TrackClosed { TrackId track; };                    // a dropped track is gone at the SFU
struct TrackFailed { TrackId track; Error error; bool retrying; };
struct Reconnecting { Error cause; uint32_t attempt; };   // session lost or API refused; retrying
struct Fail { Error error; };                             // final; nothing follows
}  // namespace action

using Action =
    std::variant<action::CreateSession, action::NewPeer, action::CreateOffer, action::PostTracks,
                 action::SetRemote, action::CreateAnswer, action::PutAnswer, action::CloseTracks,
                 action::StartTimer, action::StopTimer, action::SessionChanged, action::MapMid,
                 action::TrackLive, action::TrackClosed, action::TrackFailed, action::Reconnecting,
                 action::Fail>;
using Actions = std::vector<Action>;

enum class PeerState { connecting, connected, failed };

struct NegotiatorSettings {
  int max_retries = -1;          // attempts without success before Fail; -1 = for ever
  BackoffSettings backoff;       // session and API attempts
  BackoffSettings pull_backoff;  // tracks that are not there yet (per pull)
  uint64_t seed = 0;             // for the jitter
};

class Negotiator {
 public:
  explicit Negotiator(NegotiatorSettings settings);

  // Wants.
  [[nodiscard]] Actions publish(TrackId track, std::string name);
  [[nodiscard]] Actions subscribe(TrackId track, std::string session_id, std::string name);
  [[nodiscard]] Actions drop(TrackId track);

  // Results of actions. `mids` of an offer: which section each track got.
  struct Offer {
    std::string sdp;
    std::map<TrackId, std::string> mids;
  };
  [[nodiscard]] Actions on_session(Result<NewSessionReply> reply);
  [[nodiscard]] Actions on_offer(Result<Offer> offer);
  [[nodiscard]] Actions on_tracks(Result<TracksReply> reply);
  [[nodiscard]] Actions on_remote_set(Result<Done> result);
  [[nodiscard]] Actions on_answer(Result<std::string> sdp);
  [[nodiscard]] Actions on_answer_put(Result<RenegotiateReply> reply);
  [[nodiscard]] Actions on_closed(Result<TracksReply> reply);
  [[nodiscard]] Actions on_connection(PeerState state);
  [[nodiscard]] Actions on_timer();
  // The watchdog, a poll (404/410) or the user says that the session is dead.
  [[nodiscard]] Actions on_session_lost(Error cause);

  const std::string& session_id() const;
  // mids that the SFU still holds for us; for the last tracks/close.
  std::vector<std::string> open_mids() const;
};

}  // namespace cfr
