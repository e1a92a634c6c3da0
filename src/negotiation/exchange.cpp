// The Negotiator's other half: the results of an exchange.
#include <algorithm>
#include <climits>

#include "negotiation/negotiator.h"
#include "wire/codes.h"

namespace cfr {

namespace {

constexpr unsigned kMaxTrackTries = 5;    // of a track that the SFU fails with an error of its own
constexpr unsigned kMaxServerErrors = 5;  // of pulls in a row, then a new session
constexpr unsigned kMaxCloseErrors = 3;   // then the track is left to the SFU's own collection

Error protocol_error(std::string message) {
  Error error;
  error.kind = ErrorKind::protocol;
  error.message = std::move(message);
  return error;
}

Error body_error(const ApiError& api) {
  Error error;
  error.kind = kind_of_code(api.code).value_or(ErrorKind::rejected);
  error.code = api.code;
  error.message = "The SFU refused the request: " + api.code + ".";
  error.detail = api.description;
  return error;
}

}  // namespace

// --- the session and the offer ---------------------------------------------------------------

Actions Negotiator::on_session(Result<NewSessionReply> reply) {
  if (!std::exchange(session_pending_, false)) return {};
  if (reply && reply->error) reply = body_error(reply->error);
  if (reply && reply->session_id.empty()) reply = protocol_error("The SFU gave no session id.");
  if (reply) {
    session_id_ = reply->session_id;
    act(action::SessionChanged{session_id_});
    if (offer_)
      post_push();
    else if (!offer_pending_)
      next();
    return take();
  }
  const Error& error = reply.error();
  switch (error.kind) {
    case ErrorKind::config:
    case ErrorKind::unauthorized: fail(error); break;
    case ErrorKind::gone:  // the application's id is unknown
    case ErrorKind::rejected:
    case ErrorKind::protocol:
    case ErrorKind::peer:
      if (!established_) {
        fail(error);
        break;
      }
      [[fallthrough]];
    default:  // a session that exists unknown to us does no harm
      wait(error, Step::starting, Action(action::CreateSession{}));
  }
  return take();
}

Actions Negotiator::on_offer(Result<Offer> offer) {
  if (!std::exchange(offer_pending_, false)) return {};
  bool all_dropped =
      std::all_of(asked_.begin(), asked_.end(), [this](TrackId id) { return tracks_[id].dropped; });
  if (!offer && !all_dropped) {
    broken(offer.error());
    return take();
  }
  std::vector<TrackId> offered;
  for (TrackId id : asked_) {
    auto mid = offer ? offer->mids.find(id) : std::map<TrackId, std::string>::iterator();
    if (offer && mid != offer->mids.end() && !mid->second.empty()) {
      offered.push_back(id);
    } else if (tracks_[id].dropped) {
      forget(id);
    } else {
      Error error;
      error.kind = ErrorKind::peer;
      error.message = "webrtcbin offered no section for the track " + tracks_[id].name + ".";
      track_failed(id, error, false);
    }
  }
  asked_ = offered;
  if (offer) offer_ = std::move(*offer);
  if (session_pending_ || session_id_.empty()) return take();
  if (offer_)
    post_push();
  else
    next();
  return take();
}

// Session and offer are both there.
void Negotiator::post_push() {
  Offer offer = std::exchange(offer_, {}).value_or(Offer{});
  bool wanted = std::any_of(asked_.begin(), asked_.end(),
                            [this](TrackId id) { return !tracks_[id].dropped; });
  if (!wanted) {
    // An offer that nobody wants any more was set in webrtcbin, which cannot take it back.
    for (TrackId id : asked_) forget(id);
    asked_.clear();
    if (any(Phase::live)) {
      Error error;
      error.kind = ErrorKind::peer;
      error.message = "The offer in hand was overtaken by the end of its tracks.";
      return lose_session(error);
    }
    spent_ = true;
    return next();
  }
  action::PostTracks post{session_id_, {}};
  post.request.description = SessionDescription{SdpType::offer, std::move(offer.sdp)};
  for (TrackId id : asked_) {
    Track& track = tracks_[id];
    track.mid = offer.mids[id];
    TrackObject object;
    object.location = Location::local;
    object.mid = track.mid;
    object.track_name = track.name;
    post.request.tracks.push_back(std::move(object));
  }
  step_ = Step::posting_push;
  posted_ = post;
  act(std::move(post));
}

// --- tracks/new ------------------------------------------------------------------------------

Actions Negotiator::on_tracks(Result<TracksReply> reply) {
  if (step_ != Step::posting_push && step_ != Step::posting_pull) return {};
  if (!reply)
    exchange_failed(reply.error());
  else if (reply->error)
    exchange_failed(body_error(reply->error));
  else if (step_ == Step::posting_push)
    on_pushed(*reply);
  else
    on_pulled(*reply);
  return take();
}

// Which item of the reply speaks of which of the tracks asked for; null where none does.
std::map<TrackId, const TrackObject*> Negotiator::match_items(const TracksReply& reply) const {
  std::map<TrackId, const TrackObject*> matches;
  std::vector<bool> used(reply.tracks.size());
  auto match = [&](auto fits) {
    for (TrackId id : asked_) {
      if (matches[id]) continue;
      for (std::size_t i = 0; i < reply.tracks.size(); ++i) {
        if (used[i] || !fits(tracks_.at(id), reply.tracks[i])) continue;
        used[i] = true;
        matches[id] = &reply.tracks[i];
        break;
      }
    }
  };
  match([](const Track& track, const TrackObject& item) {
    return item.track_name == track.name &&
           (track.push ? item.mid == track.mid : item.session_id == track.publisher);
  });
  // A failed item has no mid, and may say less of itself.
  match([](const Track& track, const TrackObject& item) {
    return item.track_name == track.name &&
           (track.push ? item.mid.empty() || !item.error : item.session_id.empty());
  });
  match([](const Track& track, const TrackObject& item) {
    return track.push && item.track_name.empty() && item.mid == track.mid;
  });
  return matches;
}

// Deals with a track that was refused; true when it was accepted.
bool Negotiator::judge_item(TrackId id, const TrackObject* item) {
  Track& track = tracks_[id];
  if (item && !item->error && !item->mid.empty()) return true;
  if (track.dropped) {
    forget(id);
    return false;
  }
  Error error;
  if (!item) {
    error = protocol_error("The SFU's reply says nothing of the track " + track.name + ".");
  } else {
    error.code = item->error.code;
    error.detail = item->error.description;
    error.kind = kind_of_code(error.code)
                     .value_or(error.code.empty() ? ErrorKind::server : ErrorKind::rejected);
    // The session that an item speaks of is the publisher's: ours would fail the whole request.
    if (error.code == "session_error") error.kind = ErrorKind::not_yet;
    if (error.kind == ErrorKind::not_yet)
      error.message = "The track " + track.name + " is not there yet, or sends nothing.";
    else
      error.message = "The SFU refused the track " + track.name + ": " +
                      (error.code.empty() ? "it got no media section" : error.code) + ".";
  }
  track_failed(id, error,
               error.kind == ErrorKind::not_yet ||
                   (error.kind == ErrorKind::server && ++track.tries <= tries(id, error)));
  return false;
}

// How often a track is tried that the SFU says to have trouble with. Where it gives no reason, or
// each attempt costs other tracks their connection, it has to end.
unsigned Negotiator::tries(TrackId id, const Error& error) const {
  bool others = tracks_.at(id).push && tracks_.size() > 1;
  if (error.code.empty() || others) return kMaxTrackTries;
  return settings_.max_retries < 0 ? UINT_MAX : unsigned(settings_.max_retries);
}

// Reports it, unless the same was reported last time, and lets it rest or forgets it.
void Negotiator::track_failed(TrackId id, const Error& error, bool retrying) {
  Track& track = tracks_[id];
  Error told = error;
  told.track = track.name;
  std::string key = error.code.empty() ? to_string(error.kind) : error.code;
  if (!retrying || track.told != key) act(action::TrackFailed{id, told, retrying});
  if (!retrying) {
    tracks_.erase(id);
    return;
  }
  track.told = key;
  track.phase = Phase::resting;
  track.late = true;
  track.mid.clear();
  rest_begun_ = true;
}

void Negotiator::on_pushed(TracksReply& reply) {
  if (reply.description && reply.description->type == SdpType::offer)
    return broken(protocol_error("The SFU answered an offer with an offer."));
  auto items = match_items(reply);
  bool accepted = false;
  for (const auto& [id, item] : items)
    accepted = accepted || (item && !item->error && !item->mid.empty());
  if (accepted && !reply.description)
    return broken(protocol_error("The SFU accepted tracks, but gave no answer to the offer."));
  for (const auto& [id, item] : items) judge_item(id, item);
  if (reply.description) {
    step_ = Step::applying_answer;
    return act(action::SetRemote{*reply.description});
  }
  asked_.clear();
  abandon_offer();
}

// No track of it was accepted and it stays unanswered, but webrtcbin cannot take it back.
void Negotiator::abandon_offer() {
  if (any(Phase::live)) {
    Error error;
    error.kind = ErrorKind::rejected;
    error.message = "The SFU refused the new tracks; the others need a new connection.";
    return lose_session(error);
  }
  spent_ = true;
  next();
}

void Negotiator::on_pulled(TracksReply& reply) {
  // What is done depends on the description, not on what was expected.
  if (reply.description && reply.description->type == SdpType::answer)
    return broken(protocol_error("The SFU sent an answer, but was given no offer."));
  if (reply.requires_immediate_renegotiation && !reply.description)
    return broken(protocol_error("The SFU wants a renegotiation, but made no offer."));
  auto items = match_items(reply);
  std::set<std::string> mids;
  for (const auto& [id, track] : tracks_)
    if (track.phase == Phase::live || track.phase == Phase::closing) mids.insert(track.mid);
  for (const auto& [id, item] : items)
    if (item && !item->error && !item->mid.empty() && !mids.insert(item->mid).second)
      return broken(protocol_error("The SFU gave the section " + item->mid + " to two tracks."));

  answered_ = true;
  server_errors_ = 0;
  if (!peer_used_) backoff_.reset();  // it answers; who waits for a publisher may wait long
  for (const auto& [id, item] : items) {
    suspects_.erase(tracks_[id].publisher);
    if (!judge_item(id, item)) continue;
    tracks_[id].mid = item->mid;
    if (!tracks_[id].dropped) act(action::MapMid{item->mid, id});
  }
  if (!reply.description) return complete_exchange();
  peer_used_ = true;
  step_ = Step::applying_offer;
  act(action::SetRemote{*reply.description});
}

// --- the rest of an exchange -----------------------------------------------------------------

Actions Negotiator::on_remote_set(Result<Done> result) {
  if (step_ != Step::applying_answer && step_ != Step::applying_offer) return {};
  if (!result && step_ == Step::applying_answer && result.error().kind == ErrorKind::rejected) {
    for (TrackId id : std::exchange(asked_, {})) {
      if (tracks_[id].dropped)
        forget(id);
      else
        track_failed(id, result.error(), false);
    }
    abandon_offer();
  } else if (!result) {
    broken(result.error());
  } else if (step_ == Step::applying_answer) {
    complete_exchange();
  } else {
    step_ = Step::answering;
    act(action::CreateAnswer{});
  }
  return take();
}

Actions Negotiator::on_answer(Result<std::string> sdp) {
  if (step_ != Step::answering) return {};
  if (!sdp) {
    broken(sdp.error());
  } else {
    action::PutAnswer put{session_id_, std::move(*sdp)};
    step_ = Step::putting_answer;
    posted_ = put;
    act(std::move(put));
  }
  return take();
}

Actions Negotiator::on_answer_put(Result<RenegotiateReply> reply) {
  if (step_ != Step::putting_answer) return {};
  if (!reply)
    exchange_failed(reply.error());
  else if (reply->error)
    exchange_failed(body_error(reply->error));
  else
    complete_exchange();
  return take();
}

void Negotiator::complete_exchange() {
  for (TrackId id : asked_) {
    auto it = tracks_.find(id);
    if (it == tracks_.end() || it->second.phase != Phase::exchange) continue;
    Track& track = it->second;
    if (track.dropped) {
      track.dropped = false;
      track.phase = Phase::closing;
      continue;
    }
    track.phase = Phase::live;
    track.late = false;
    track.tries = 0;
    track.told.clear();
    if (!track.push) pull_backoff_.reset();
    act(action::TrackLive{id, track.mid});
  }
  asked_.clear();
  settle();
  next();
}

// --- errors ----------------------------------------------------------------------------------

// Of PostTracks and PutAnswer. A request is repeated only if the SFU cannot have acted on it.
void Negotiator::exchange_failed(const Error& error) {
  bool pulling = step_ == Step::posting_pull;
  switch (error.kind) {
    case ErrorKind::config:
    case ErrorKind::unauthorized: return fail(error);
    case ErrorKind::gone: return pulling ? pull_gone(error) : lose_session(error);
    case ErrorKind::busy:
    case ErrorKind::unreachable:
      if (!pulling) return wait(error, step_, posted_);
      requeue_pulls();
      return wait(error, Step::idle);
    case ErrorKind::not_yet:
      if (!pulling) return lose_session(error);
      answered_ = true;
      rest_pulls(error);
      return next();
    case ErrorKind::server:
      // No description of ours is at stake; still, a session that only fails is given up.
      if (!pulling || ++server_errors_ > kMaxServerErrors) {
        server_errors_ = 0;
        return lose_session(error);
      }
      requeue_pulls();
      return wait(error, Step::idle);
    case ErrorKind::timeout:
    case ErrorKind::cancelled: return lose_session(error);
    case ErrorKind::rejected: return request_rejected(error);
    case ErrorKind::protocol:
    case ErrorKind::peer: return broken(error);
  }
}

void Negotiator::requeue_pulls() {
  for (TrackId id : std::exchange(asked_, {})) {
    if (tracks_[id].dropped)
      forget(id);
    else
      tracks_[id].phase = Phase::wanted;
  }
}

void Negotiator::rest_pulls(const Error& error) {
  for (TrackId id : std::exchange(asked_, {})) {
    if (tracks_[id].dropped)
      forget(id);
    else
      track_failed(id, error, true);
  }
}

// 410 (or 404) in answer to a pull: our session is gone, or a publisher's.
void Negotiator::pull_gone(const Error& error) {
  Error missing = error;
  missing.kind = ErrorKind::not_yet;
  missing.message = "The publisher's session is gone, or not there yet.";
  if (!peer_used_) {
    // Nothing was negotiated, so nothing is lost: a session that nobody connected to expires. But
    // one that was refused as soon as it existed cannot have expired.
    if (answered_)
      requeue_pulls();
    else
      rest_pulls(missing);
    release_session();
    return next();
  }
  bool known = true;
  for (TrackId id : asked_) known = suspects_.insert(tracks_[id].publisher).second ? false : known;
  if (!known || !any(Phase::live)) return lose_session(error);
  // It was so in the session before this one, too, and others do play here.
  rest_pulls(missing);
  next();
}

void Negotiator::request_rejected(const Error& error) {
  if (step_ == Step::putting_answer) return broken(error);
  // In answer to a request without a description: an exchange is open that we know nothing of.
  if (error.code == "invalid_session_description") {
    if (step_ == Step::posting_pull && !established_ && ++faults_ <= kMaxFaults)
      return lose_session(error);
    return broken(error);
  }
  bool others = std::any_of(tracks_.begin(), tracks_.end(), [this](const auto& entry) {
    return std::find(asked_.begin(), asked_.end(), entry.first) == asked_.end();
  });
  if (!others) return broken(error);
  bool pulling = step_ == Step::posting_pull;
  for (TrackId id : std::exchange(asked_, {})) {
    if (tracks_[id].dropped)
      forget(id);
    else
      track_failed(id, error, false);
  }
  if (pulling)
    next();
  else
    lose_session(error);  // for the offer that webrtcbin cannot take back
}

// --- tracks/close ----------------------------------------------------------------------------

Actions Negotiator::on_closed(Result<TracksReply> reply) {
  if (step_ != Step::closing) return {};
  if (reply && reply->error) reply = body_error(reply->error);
  std::set<std::string> failed;  // mids that are to be asked for again
  if (!reply) {
    const Error& error = reply.error();
    switch (error.kind) {
      case ErrorKind::config:
      case ErrorKind::unauthorized: fail(error); return take();
      case ErrorKind::gone:
        // Nothing is left to close; nor is anything left of the other tracks.
        asked_.clear();
        if (any(Phase::live)) {
          lose_session(error);
          return take();
        }
        for (const auto& [id, track] : Tracks(tracks_))
          if (track.phase == Phase::closing) forget(id);
        finish_close();
        return take();
      case ErrorKind::rejected: break;  // nothing by these mids
      case ErrorKind::busy:
      case ErrorKind::unreachable:
        asked_.clear();
        wait(error, Step::idle);
        return take();
      default:
        // Closing twice does no harm.
        if (++close_errors_ > kMaxCloseErrors) break;
        asked_.clear();
        wait(error, Step::idle);
        return take();
    }
  } else {
    for (std::size_t i = 0; i < reply->tracks.size(); ++i) {
      const TrackObject& item = reply->tracks[i];
      if (!item.error || item.error.code == "close_track_error") continue;
      std::string mid = item.mid;
      if (mid.empty() && reply->tracks.size() == asked_.size()) mid = tracks_[asked_[i]].mid;
      failed.insert(mid);
    }
    if (!failed.empty() && ++close_errors_ <= kMaxCloseErrors) {
      for (TrackId id : std::exchange(asked_, {}))
        if (!failed.count(tracks_[id].mid)) forget(id);
      Error error;
      error.kind = ErrorKind::server;
      error.message = "The SFU could not close all tracks.";
      wait(error, Step::idle);
      return take();
    }
  }
  finish_close();
  return take();
}

void Negotiator::finish_close() {
  close_errors_ = 0;
  for (TrackId id : std::exchange(asked_, {})) forget(id);
  // A session that was emptied is dead: https://developers.cloudflare.com/realtime/ says nothing
  // of it, but clients have found its next exchange answered by 410.
  if (!any(Phase::live) && !any(Phase::closing)) spent_ = true;
  next();
}

}  // namespace cfr
