// Decides what has to happen next between us, the SFU and webrtcbin. Pure: no I/O, threads,
// clock, SDP parsing or logging. Every input returns actions for the caller to perform in order;
// the outcome of each action comes back as an input. At most one exchange is in flight.
//
// What the caller has to keep: a NewPeer ends everything that was under way for the peer before,
// so the results of calls made before it are not to be given any more. A result that no call is
// waiting for is ignored.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "negotiation/backoff.h"
#include "util/error.h"
#include "util/result.h"
#include "wire/types.h"

namespace cfr {

// Names a track of ours for the life of the element; chosen by the caller, never reused.
using TrackId = uint32_t;

// clang-format off
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
// clang-format on

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
  BackoffSettings pull_backoff;  // tracks that are not there yet (one round for all that wait)
  uint64_t seed = 0;             // for the jitter
};

class Negotiator {
 public:
  explicit Negotiator(NegotiatorSettings settings);

  // Wants. A track that is dropped gets TrackClosed, at once if the SFU has not heard of it; one
  // that failed for good is forgotten and gets nothing more.
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
  // May also come before its time, when waiting any longer makes no sense.
  [[nodiscard]] Actions on_timer();
  // The watchdog, a poll (404/410) or the user says that the session is dead.
  [[nodiscard]] Actions on_session_lost(Error cause);

  const std::string& session_id() const { return session_id_; }
  // mids that the SFU holds for us, or may hold; for the last tracks/close.
  std::vector<std::string> open_mids() const;

 private:
  enum class Step {
    no_session,
    starting,  // CreateSession, and CreateOffer beside it when something is to be published
    idle,
    offering,
    posting_push,
    applying_answer,
    posting_pull,
    applying_offer,
    answering,
    putting_answer,
    closing,
    waiting,  // for the timer, then on with resume_
    failed,
  };
  enum class Phase {
    wanted,
    resting,   // the SFU said "not yet": until the timer
    exchange,  // part of the exchange in flight
    live,
    closing,  // dropped, and still held by the SFU
  };
  struct Track {
    bool push = false;
    std::string name;
    std::string publisher;  // session id; pulls only
    Phase phase = Phase::wanted;
    std::string mid;       // in this session; "" = none
    bool dropped = false;  // while in an exchange
    bool late = false;     // had its "not yet": asked for after the others
    unsigned tries = 0;    // that ended in an error of the SFU's own
    std::string told;      // the code the last TrackFailed carried
  };

  using Tracks = std::map<TrackId, Track>;

  // Backoff spares a service that refuses; one that cannot be reached is asked at least this often,
  // so that media is back soon after the network is.
  static constexpr uint32_t kUnreachableRetryMs = 1000;
  // After so many unintelligible replies and the like in a row a new session will not help.
  static constexpr unsigned kMaxFaults = 5;

  // negotiator.cpp: what to do next, and what to do when the session is lost
  Actions take() { return std::exchange(actions_, {}); }
  template <class A>
  void act(A action) {
    actions_.emplace_back(std::move(action));
  }
  bool any(Phase phase) const;
  bool push_due(const Track& track, bool late) const;
  bool pull_due(const Track& track, bool late) const;
  bool suspect(const Track& track) const;
  void next();
  bool start_offer(bool late);
  bool start_pull(bool late);
  bool start_close();
  void start_session();
  void start_timer(uint32_t delay_ms);
  void arm_rest_timer();
  void settle();
  void forget(TrackId id);
  void wait(const Error& error, Step resume, std::optional<Action> repeat = {});
  void resume();
  void release_session();
  void lose_session(const Error& cause);
  void broken(const Error& error);
  void fail(const Error& error);

  // exchange.cpp: the results of an exchange
  void post_push();
  void on_pushed(TracksReply& reply);
  void on_pulled(TracksReply& reply);
  std::map<TrackId, const TrackObject*> match_items(const TracksReply& reply) const;
  bool judge_item(TrackId id, const TrackObject* item);
  void track_failed(TrackId id, const Error& error, bool retrying);
  unsigned tries(TrackId id, const Error& error) const;
  void complete_exchange();
  void exchange_failed(const Error& error);
  void pull_gone(const Error& error);
  void request_rejected(const Error& error);
  void abandon_offer();
  void requeue_pulls();
  void rest_pulls(const Error& error);
  void finish_close();

  NegotiatorSettings settings_;
  Backoff backoff_, pull_backoff_;
  Tracks tracks_;
  Actions actions_;  // of the input in hand

  Step step_ = Step::no_session;
  std::string session_id_;
  PeerState connection_ = PeerState::connecting;
  bool session_pending_ = false, offer_pending_ = false;
  std::optional<Offer> offer_;    // made, not yet posted
  std::vector<TrackId> asked_;    // the new tracks of the exchange in flight
  std::optional<Action> posted_;  // its last request, to be repeated if it cannot have been seen
  bool peer_used_ = false;        // a description was made for or given to this webrtcbin
  bool answered_ = false;         // the session has answered a pull
  bool spent_ = false;            // the session was emptied: it is dead at the SFU, or soon
  bool established_ = false;      // media could flow, in this session or an earlier one

  // Waiting.
  Step resume_ = Step::idle;
  std::optional<Action> repeat_;
  bool until_connected_ = false;  // 425: the wait is over when the peer is connected
  bool timer_armed_ = false;
  bool rest_begun_ = false;    // a track went to rest in the step in hand
  bool rest_restart_ = false;  // the round of resting tracks starts anew, for a new want's sake

  unsigned faults_ = 0;         // descriptions refused that were none of ours
  unsigned server_errors_ = 0;  // answers to pulls, in a row
  unsigned close_errors_ = 0;   // answers to closes, in a row
  // Publishers whose pulls were answered by 410: perhaps it is their session, not ours, that is
  // gone, so they are asked for alone and last.
  std::set<std::string> suspects_;
};

}  // namespace cfr
