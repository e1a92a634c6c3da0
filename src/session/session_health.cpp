// How a Session notices that its connection is lost, and what it renews in time: the token and the
// TURN credentials.
#include <algorithm>

#include "rtc/ice_servers.h"
#include "session/session.h"

GST_DEBUG_CATEGORY_EXTERN(cf_realtime_session_debug);
#define GST_CAT_DEFAULT cf_realtime_session_debug

namespace cfr {

namespace {

constexpr unsigned kWatchIntervalMs = 500;
constexpr unsigned kAskAgainMs = 4000;
// For media to come back by itself once the API has been reached again.
constexpr int64_t kGraceUs = 2 * G_USEC_PER_SEC;
// After a change of the network a silence is more likely to be the end, and is for certain when the
// connection's own address is gone.
constexpr unsigned kSuspectAfterChangeMs = 1000;
constexpr int64_t kGraceAfterChangeUs = G_USEC_PER_SEC;
// STUN checks are repeated after 0.5, 1.5, 3.5, 7.5 s (libnice, as RFC 8489 has it). Within a short
// attempt no pause is long, so media is back soon after the network is; a longer one now and then
// serves those whose way is slow.
constexpr unsigned kConnectMs = 4000, kPatientConnectMs = 12000, kPatientEvery = 4;
constexpr unsigned kCandidateTicks = 10;
constexpr uint32_t kTurnRetryMs = 1000;

}  // namespace

// --- the watchdog ----------------------------------------------------------------------------

void Session::watch() {
  watch_timer_.start(worker_, kWatchIntervalMs, [this] {
    watch();
    listener_.on_watch();
    if (!over()) end_departed();
    if (peer_ && peer_connected_ && !over()) check_peer();
  });
}

// webrtcbin never reports a vanished peer, so silence is measured here: what the SFU sends (RTCP
// about what we send, RTP and sender reports of what we play) must keep coming.
void Session::watch_peer() {
  Peer::Received received = peer_->received();
  heard_rtp_ = received.rtp;
  heard_packets_ = received.rtp + received.rtcp;
  heard_at_ = g_get_monotonic_time();
  usual_silence_us_ = 0;
  confirmed_at_ = asked_at_ = 0;
  sent_packets_ = listener_.packets_sent();
  ticks_ = 0;
}

void Session::check_peer() {
  if (ticks_++ % kCandidateTicks == 1) look_at_candidates();
  Peer::Received received = peer_->received();
  uint64_t heard = received.rtp + received.rtcp;
  uint64_t sent = listener_.packets_sent();
  bool publishing = sent != std::exchange(sent_packets_, sent);
  bool expecting = publishing || (published_.empty() && !tracks_by_mid_.empty());
  int64_t now = g_get_monotonic_time();
  if (received.rtp != std::exchange(heard_rtp_, received.rtp)) wait_timer_.cancel();
  if (heard != std::exchange(heard_packets_, heard) || !expecting) {
    if (expecting) usual_silence_us_ = std::max(usual_silence_us_, now - heard_at_);
    heard_at_ = now;
    confirmed_at_ = asked_at_ = 0;
    if (state_ == ConnectionState::suspect) {
      set_state(ConnectionState::connected);
      hurry_stream();
    }
    return;
  }
  int64_t silent_ms = (now - heard_at_) / 1000;
  // What was heard with the last look may have come before the change.
  bool network_changed = network_changed_at_ > heard_at_ - kWatchIntervalMs * 1000;
  bool cut_off = network_changed && lost_address();
  // RTCP about audio alone may come every 5 s only (RFC 3550, section 6.2).
  int64_t suspect_ms =
      std::clamp<int64_t>(usual_silence_us_ * 3 / 2 / 1000, settings_.suspect_after_ms,
                          settings_.lost_after_ms * 3 / 4);
  if (network_changed) suspect_ms = cut_off ? 0 : kSuspectAfterChangeMs;
  if (silent_ms < suspect_ms) return;
  if (state_ == ConnectionState::connected) {
    set_state(ConnectionState::suspect);
    discovery_.ask_soon();
  }
  // Where the API cannot be reached either, a new session could not be had, and the one that is
  // there may outlive the outage.
  bool confirmed = confirmed_at_ != 0;
  if (!confirmed && (asked_at_ == 0 || now - asked_at_ >= kAskAgainMs * 1000)) ask_about_session();
  bool due = network_changed || silent_ms >= settings_.lost_after_ms;
  int64_t grace_us = kGraceUs;
  if (network_changed) grace_us = cut_off ? 0 : kGraceAfterChangeUs;
  if ((confirmed && due && now - std::max(confirmed_at_, network_changed_at_) >= grace_us) ||
      silent_ms >= settings_.expired_after_ms)
    lost("The SFU has been silent for " + std::to_string(silent_ms / 1000) +
         " s; a new connection is being built.");
}

void Session::lost(std::string message) {
  note("> lost");
  Error error;
  error.kind = ErrorKind::unreachable;
  error.message = std::move(message);
  run(negotiator_.on_session_lost(std::move(error)));
}

// A blip of the network must not cost a session, but one that the SFU has lost is not worth
// waiting for.
void Session::ask_about_session() {
  asked_at_ = g_get_monotonic_time();
  info_->get_session(negotiator_.session_id(),
                     [this, number = peer_number_](Result<SessionState> state) {
                       if (over() || number != peer_number_ || asked_at_ == 0) return;
                       if (!state && (state.error().kind == ErrorKind::unreachable ||
                                      state.error().kind == ErrorKind::timeout)) {
                         asked_at_ = 0;  // again with the next look
                         return;
                       }
                       confirmed_at_ = g_get_monotonic_time();
                       if (state || state.error().kind != ErrorKind::gone) return;
                       note("> session gone");
                       run(negotiator_.on_session_lost(state.error()));
                     });
}

void Session::limit_connect() {
  if (peer_connected_ || !peer_) return;
  unsigned limit_ms = ++connect_attempts_ % kPatientEvery == 0 ? kPatientConnectMs : kConnectMs;
  connect_timer_.start(worker_, limit_ms, [this, limit_ms] {
    prefer_relay_ = !prefer_relay_;
    lost("The SFU's media address has not answered for " + std::to_string(limit_ms / 1000) +
         " s. If UDP is blocked here, TURN helps (turn-key-id).");
  });
}

// A wait is cut short when the network comes back, at most once a second.
void Session::on_network_changed(bool available) {
  if (over() || !available) return;
  int64_t before = std::exchange(network_changed_at_, g_get_monotonic_time());
  prefer_relay_ = false;
  if (network_changed_at_ - before < G_USEC_PER_SEC) return;
  note("> network changed");
  hurry_stream();
  if (!retry_timer_.armed()) return;
  retry_timer_.cancel();
  run(negotiator_.on_timer());
}

// Nothing can come any more over a connection whose address has gone.
bool Session::lost_address() const {
  if (candidate_pair_.local_type != "host") return false;  // the address is a router's or a relay's
  const std::string& address = candidate_pair_.local_address;
  return !Network::has_address(address.substr(0, address.rfind(':')));
}

void Session::look_at_candidates() {
  peer_->candidate_pair([this, number = peer_number_](Result<Peer::CandidatePair> pair) {
    if (stopped_ || number != peer_number_ || !pair) return;
    candidate_pair_ = std::move(*pair);
    listener_.on_candidate_pair(candidate_pair_);
  });
}

// --- the token -------------------------------------------------------------------------------

void Session::renew_token(std::function<void(bool)> then) {
  if (over()) return then(false);
  waiting_for_token_.push_back(std::move(then));
  if (waiting_for_token_.size() > 1) return;  // asked already
  note("> token refused");
  if (!listener_.on_token_refused()) token_renewed("");
}

void Session::token_renewed(std::string token) {
  if (stopped_) return;
  bool renewed = !token.empty() && token != settings_.api.token;
  if (renewed) {
    settings_.api.token = token;
    api_->set_token(token);
    info_->set_token(std::move(token));
  }
  for (auto& then : std::exchange(waiting_for_token_, {})) then(renewed);
}

// --- TURN ------------------------------------------------------------------------------------

void Session::fetch_turn() {
  turn_ = Turn::fetching;
  turn_timer_.cancel();
  IceServersRequest request{settings_.turn_ttl_s, ""};
  info_->generate_ice_servers(settings_.turn_key_id, settings_.turn_key_token, request,
                              [this](Result<std::vector<IceServer>> servers) {
                                if (over()) return;
                                if (servers)
                                  turn_fetched(*servers);
                                else
                                  turn_failed(servers.error());
                              });
}

void Session::turn_fetched(const std::vector<IceServer>& servers) {
  note("> turn-credentials");
  turn_ = Turn::ready;
  turn_backoff_.reset();
  turn_servers_.clear();
  for (const IceServer& server : servers)
    for (const std::string& url : server.urls) {
      std::string uri = turn_uri(url, server.username, server.credential);
      if (!uri.empty()) turn_servers_.push_back(uri);
    }
  // An expired credential cuts its allocation. webrtcbin cannot be given another, so a relayed
  // connection moves to a new one shortly before.
  unsigned before_s = std::min(settings_.turn_ttl_s / 5, 600u);
  turn_timer_.start(worker_, (settings_.turn_ttl_s - before_s) * 1000, [this] {
    if (candidate_pair_.local_type != "relay") return;
    note("> turn-credentials expire");
    Error error;
    error.kind = ErrorKind::cancelled;  // by ourselves: nothing to tell the user
    error.message = "The TURN credentials expire.";
    run(negotiator_.on_session_lost(std::move(error)));
  });
  make_peer();
}

// Without relay-only, TURN is but one of several ways: the next connection asks again.
void Session::turn_failed(const Error& error) {
  note(std::string("> turn-credentials ") + to_string(error.kind) + " " + error.code);
  Error told = error;
  told.message = "No TURN credentials: " + error.message;
  bool retry = error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timeout ||
               error.kind == ErrorKind::server || error.kind == ErrorKind::busy;
  int allowed = settings_.negotiator.max_retries;
  bool spent = allowed >= 0 && turn_backoff_.attempts() >= unsigned(allowed);
  if (settings_.peer.relay_only && (!retry || spent)) return fail(told);
  if (turn_backoff_.attempts() == 0) listener_.on_warning(told);
  uint32_t delay_ms = turn_backoff_.next_ms(error.retry_after_ms);
  if (error.kind == ErrorKind::unreachable) delay_ms = std::min(delay_ms, kTurnRetryMs);
  if (settings_.peer.relay_only) {
    turn_timer_.start(worker_, delay_ms, [this] { fetch_turn(); });
    return;
  }
  turn_ = Turn::ready;
  make_peer();
}

}  // namespace cfr
