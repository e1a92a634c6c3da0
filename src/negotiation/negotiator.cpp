#include "negotiation/negotiator.h"

#include <algorithm>

namespace cfr {

namespace {

// A request takes 64 tracks (https://developers.cloudflare.com/realtime/sfu/limits/); half of it
// keeps the descriptions small.
constexpr std::size_t kMaxBatch = 32;

}  // namespace

Negotiator::Negotiator(NegotiatorSettings settings)
    : settings_(settings),
      backoff_(settings.backoff, settings.seed),
      pull_backoff_(settings.pull_backoff, ~settings.seed) {}

// --- wants -----------------------------------------------------------------------------------

Actions Negotiator::publish(TrackId id, std::string name) {
  if (step_ == Step::failed || tracks_.count(id)) return {};
  Track& track = tracks_[id];
  track.push = true;
  track.name = std::move(name);
  if (step_ == Step::idle || step_ == Step::no_session) next();
  return take();
}

Actions Negotiator::subscribe(TrackId id, std::string session_id, std::string name) {
  if (step_ == Step::failed || tracks_.count(id)) return {};
  Track& track = tracks_[id];
  track.publisher = std::move(session_id);
  track.name = std::move(name);
  // Something is known to be new at the publisher's: those who wait are tried sooner, too.
  pull_backoff_.reset();
  rest_restart_ = true;
  if (step_ == Step::idle || step_ == Step::no_session) next();
  return take();
}

Actions Negotiator::drop(TrackId id) {
  auto it = tracks_.find(id);
  if (step_ == Step::failed || it == tracks_.end()) return {};
  switch (it->second.phase) {
    case Phase::wanted:
    case Phase::resting: forget(id); break;
    case Phase::exchange: it->second.dropped = true; break;
    case Phase::live:
      it->second.phase = Phase::closing;
      if (step_ == Step::idle) next();
      break;
    case Phase::closing: break;
  }
  return take();
}

void Negotiator::forget(TrackId id) {
  tracks_.erase(id);
  act(action::TrackClosed{id});
}

// --- what next -------------------------------------------------------------------------------

bool Negotiator::any(Phase phase) const {
  return std::any_of(tracks_.begin(), tracks_.end(),
                     [phase](const auto& entry) { return entry.second.phase == phase; });
}

bool Negotiator::suspect(const Track& track) const {
  return suspects_.count(track.publisher) > 0;
}

bool Negotiator::push_due(const Track& track, bool late) const {
  if (!track.push || track.phase != Phase::wanted || track.late != late) return false;
  // A name is free for another track only when the one before is closed.
  return std::none_of(tracks_.begin(), tracks_.end(), [&](const auto& entry) {
    return entry.second.push && entry.second.phase == Phase::closing &&
           entry.second.name == track.name;
  });
}

bool Negotiator::pull_due(const Track& track, bool late) const {
  return !track.push && track.phase == Phase::wanted && (track.late || suspect(track)) == late;
}

// Chooses the next exchange, when none is in flight. New tracks go first; a session that still has
// live tracks stays alive through the closing of others. Tracks that were not there last time go
// last, since the SFU waits several seconds for their media before it answers.
void Negotiator::next() {
  step_ = session_id_.empty() ? Step::no_session : Step::idle;
  if (session_id_.empty() || spent_) {
    // What such a session still holds can be closed without a description.
    if (!start_close() && any(Phase::wanted)) start_session();
  } else {
    (void)(start_offer(false) || start_pull(false) || start_close() || start_offer(true) ||
           start_pull(true));
  }
  arm_rest_timer();
}

void Negotiator::start_session() {
  release_session();
  step_ = Step::starting;
  session_pending_ = true;
  act(action::CreateSession{});
  if (!offer_ && !offer_pending_) (void)(start_offer(false) || start_offer(true));
}

bool Negotiator::start_offer(bool late) {
  asked_.clear();
  action::CreateOffer offer;
  for (auto& [id, track] : tracks_) {
    if (push_due(track, late) && asked_.size() < kMaxBatch)
      asked_.push_back(id);
    else if (!track.push || track.phase != Phase::live)
      continue;
    offer.tracks.push_back(id);
  }
  if (asked_.empty()) return false;
  for (TrackId id : asked_) tracks_[id].phase = Phase::exchange;
  offer_pending_ = true;
  peer_used_ = true;
  if (step_ != Step::starting) step_ = Step::offering;
  act(std::move(offer));
  return true;
}

bool Negotiator::start_pull(bool late) {
  asked_.clear();
  action::PostTracks post{session_id_, {}};
  const std::string* alone = nullptr;  // the publisher that this request is about, if suspect
  for (auto& [id, track] : tracks_) {
    if (!pull_due(track, late) || asked_.size() >= kMaxBatch) continue;
    if (asked_.empty())
      alone = suspect(track) ? &track.publisher : nullptr;
    else if (alone ? track.publisher != *alone : suspect(track))
      continue;
    asked_.push_back(id);
    TrackObject object;
    object.location = Location::remote;
    object.session_id = track.publisher;
    object.track_name = track.name;
    post.request.tracks.push_back(std::move(object));
  }
  if (asked_.empty()) return false;
  for (TrackId id : asked_) tracks_[id].phase = Phase::exchange;
  step_ = Step::posting_pull;
  act(std::move(post));
  return true;
}

bool Negotiator::start_close() {
  asked_.clear();
  action::CloseTracks close{session_id_, {}};
  for (auto& [id, track] : tracks_) {
    if (track.phase != Phase::closing || asked_.size() >= kMaxBatch) continue;
    asked_.push_back(id);
    close.mids.push_back(track.mid);
  }
  if (asked_.empty()) return false;
  step_ = Step::closing;
  act(std::move(close));
  return true;
}

// --- waiting ---------------------------------------------------------------------------------

void Negotiator::start_timer(uint32_t delay_ms) {
  timer_armed_ = true;
  rest_begun_ = rest_restart_ = false;
  act(action::StartTimer{delay_ms});
}

// One timer serves all: whenever it fires, every resting track is due.
void Negotiator::arm_rest_timer() {
  if (!rest_begun_ || step_ == Step::waiting || step_ == Step::failed) return;
  rest_begun_ = false;
  if (!timer_armed_ || rest_restart_) start_timer(pull_backoff_.next_ms());
}

void Negotiator::wait(const Error& error, Step resume, std::optional<Action> repeat) {
  // What was ended by ourselves, to be renewed, counts against nobody.
  const bool renewal = error.kind == ErrorKind::cancelled;
  if (!renewal && settings_.max_retries >= 0 &&
      backoff_.attempts() >= static_cast<unsigned>(settings_.max_retries))
    return fail(error);
  step_ = Step::waiting;
  resume_ = resume;
  repeat_ = std::move(repeat);
  until_connected_ = error.http_status == 425;
  // While media flows, a request that has to wait is no reason to speak of reconnecting.
  if (connection_ != PeerState::connected)
    act(action::Reconnecting{error, backoff_.attempts() + 1});
  uint32_t delay_ms = renewal ? 0 : backoff_.next_ms(error.retry_after_ms);
  if (error.kind == ErrorKind::unreachable && delay_ms > kUnreachableRetryMs)
    delay_ms = kUnreachableRetryMs - delay_ms % (kUnreachableRetryMs / 5);  // keeps its jitter
  start_timer(delay_ms);
}

void Negotiator::resume() {
  step_ = resume_;
  until_connected_ = false;
  if (!repeat_) return next();
  act(std::exchange(repeat_, {}).value());
  if (step_ != Step::starting) return;
  session_pending_ = true;
  if (!offer_ && !offer_pending_) (void)(start_offer(false) || start_offer(true));
}

Actions Negotiator::on_timer() {
  if (step_ == Step::failed) return {};
  timer_armed_ = false;
  for (auto& [id, track] : tracks_)
    if (track.phase == Phase::resting) track.phase = Phase::wanted;
  if (step_ == Step::waiting)
    resume();
  else if (step_ == Step::idle || step_ == Step::no_session)
    next();
  return take();
}

// --- the session -----------------------------------------------------------------------------

Actions Negotiator::on_connection(PeerState state) {
  if (step_ == Step::failed) return {};
  if (state == PeerState::failed) {
    // Without a session there is no connection; what is heard is the end of the one before.
    if (session_id_.empty()) return {};
    Error error;
    error.kind = ErrorKind::unreachable;
    error.message = "The media connection to the SFU failed.";
    lose_session(error);
    return take();
  }
  connection_ = state;
  if (state != PeerState::connected) return {};
  settle();
  if (step_ == Step::waiting && until_connected_) {
    if (!any(Phase::resting)) {
      timer_armed_ = false;
      act(action::StopTimer{});
    }
    resume();
  }
  return take();
}

Actions Negotiator::on_session_lost(Error cause) {
  // Without a session, a new one is being made or waited for anyway.
  if (step_ == Step::failed || (session_id_.empty() && step_ != Step::starting)) return {};
  lose_session(cause);
  return take();
}

// Connected and negotiated: whatever was counted against the service is forgotten.
void Negotiator::settle() {
  if (connection_ != PeerState::connected || !any(Phase::live)) return;
  backoff_.reset();
  established_ = true;
}

void Negotiator::release_session() {
  if (peer_used_) {
    act(action::NewPeer{});
    peer_used_ = false;
    connection_ = PeerState::connecting;
  }
  if (!session_id_.empty()) act(action::SessionChanged{""});
  session_id_.clear();
  spent_ = answered_ = false;
}

void Negotiator::lose_session(const Error& cause) {
  for (auto it = tracks_.begin(); it != tracks_.end();) {
    Track& track = it->second;
    if (track.dropped || track.phase == Phase::closing) {
      act(action::TrackClosed{it->first});
      it = tracks_.erase(it);
      continue;
    }
    if (track.phase == Phase::live) track.late = false;
    track.phase = Phase::wanted;
    track.mid.clear();
    ++it;
  }
  session_pending_ = offer_pending_ = false;
  offer_.reset();
  repeat_.reset();
  asked_.clear();
  peer_used_ = true;  // whatever it was used for, it is not to be trusted
  release_session();
  if (!tracks_.empty()) return wait(cause, Step::no_session);
  step_ = Step::no_session;
  if (std::exchange(timer_armed_, false)) act(action::StopTimer{});
}

// Something that a repetition will hardly change. A stream that has flowed before is tried anew all
// the same: what is in front of the service may have answered for it. One that has never done so is
// better told at once what is wrong.
void Negotiator::broken(const Error& error) {
  if (established_)
    lose_session(error);
  else
    fail(error);
}

void Negotiator::fail(const Error& error) {
  step_ = Step::failed;
  session_pending_ = offer_pending_ = false;
  if (std::exchange(timer_armed_, false)) act(action::StopTimer{});
  act(action::Fail{error});
}

std::vector<std::string> Negotiator::open_mids() const {
  std::vector<std::string> mids;
  if (session_id_.empty()) return mids;
  for (const auto& [id, track] : tracks_)
    if (!track.mid.empty()) mids.push_back(track.mid);
  return mids;
}

}  // namespace cfr
